#include <cstdio>
#include <exception>
#include <span>

#include "app/command_line.h"
#include "app/train_command.h"
#include "core/error.h"
#include "core/log.h"

/// The outermost level: whatever ends the run is one line on standard error and an exit code.
int main(int argc, char** argv) {
  using namespace dcs3gd;
  try {
    return app::run_train_command(app::parse_command_line(std::span<const char* const>(argv, argc)));
  } catch (const Error& error) {
    log::error(error.what());
    return error.exit_code();
  } catch (const std::exception& error) {
    log::error(error.what());
    return static_cast<int>(ErrorKind::failure);
  }
}
