#include "app/job/exit_code.h"

#include <csignal>
#include <cstdio>
#include <optional>

#include <fcntl.h>

#include "app/job/agreement.h"
#include "core/error.h"
#include "core/files.h"
#include "core/format.h"
#include "core/log.h"

namespace dcs3gd::app {
namespace {

/// What a file of ours must never be: one of the three that the log and the libraries write to.
void open_standard_streams() {
  for (const int descriptor : {0, 1, 2}) {
    // The lowest free number is the one that is missing.
    if (fcntl(descriptor, F_GETFD) == -1) [[maybe_unused]]
      const int opened = open("/dev/null", O_RDWR);
  }
}

/// Output is not the work: who stops reading it, and a file that may not grow, become errors of a write.
void ignore_signals_of_writes() {
  for (const int number : {SIGPIPE, SIGXFSZ}) std::signal(number, SIG_IGN);
}

}  // namespace

int exit_code_of(const std::function<int()>& command) {
  raise_descriptor_limit();
  open_standard_streams();
  ignore_signals_of_writes();
  int exit_code = 0;
  const std::optional<Error> error = attempt([&] { exit_code = command(); });
  if (!error) return exit_code;
  log::error(error->what());
  return error->exit_code();
}

void flush_output() {
  const bool is_lost = std::ferror(stdout) != 0;
  if (std::fflush(stdout) == 0 && !is_lost) return;
  throw Error(ErrorKind::failure, format("standard output: {}", system_reason()));
}

}  // namespace dcs3gd::app
