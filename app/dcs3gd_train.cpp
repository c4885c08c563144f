#include <span>

#include "app/command_line.h"
#include "app/exit_code.h"
#include "app/train_command.h"

int main(int argc, char** argv) {
  using namespace dcs3gd::app;
  return exit_code_of([&] {
    return run_train_command(parse_command_line(std::span<const char* const>(argv, static_cast<std::size_t>(argc))));
  });
}
