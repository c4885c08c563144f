#include "app/bench/bench_command.h"
#include "app/job/exit_code.h"

int main(int argc, char** argv) {
  using namespace dcs3gd::app;
  return exit_code_of([&] { return run_bench_command(argc, argv); });
}
