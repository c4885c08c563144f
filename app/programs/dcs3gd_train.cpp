#include <span>

#include "app/job/exit_code.h"
#include "app/programs/command_line.h"
#include "app/programs/train_command.h"

int main(int argc, char** argv) {
  using namespace dcs3gd::app;
  return exit_code_of([&] {
    return run_train_command(parse_command_line(std::span<const char* const>(argv, static_cast<std::size_t>(argc))));
  });
}
