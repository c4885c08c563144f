#include "app/data_command.h"
#include "app/exit_code.h"

int main(int argc, char** argv) {
  using namespace dcs3gd::app;
  return exit_code_of([&] { return run_data_command(argc, argv); });
}
