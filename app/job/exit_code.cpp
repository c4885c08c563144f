#include "app/job/exit_code.h"

#include <optional>

#include "app/job/agreement.h"
#include "core/files.h"
#include "core/log.h"

namespace dcs3gd::app {

int exit_code_of(const std::function<int()>& command) {
  raise_descriptor_limit();
  int exit_code = 0;
  const std::optional<Error> error = attempt([&] { exit_code = command(); });
  if (!error) return exit_code;
  log::error(error->what());
  return error->exit_code();
}

}  // namespace dcs3gd::app
