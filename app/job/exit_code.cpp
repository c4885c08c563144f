#include "app/job/exit_code.h"

#include <exception>

#include "core/error.h"
#include "core/log.h"

namespace dcs3gd::app {

int exit_code_of(const std::function<int()>& command) {
  try {
    return command();
  } catch (const Error& error) {
    log::error(error.what());
    return error.exit_code();
  } catch (const std::exception& error) {
    log::error(error.what());
    return static_cast<int>(ErrorKind::failure);
  }
}

}  // namespace dcs3gd::app
