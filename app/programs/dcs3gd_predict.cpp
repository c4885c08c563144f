#include "app/job/exit_code.h"
#include "app/predict/predict_command.h"

int main(int argc, char** argv) {
  using namespace dcs3gd::app;
  return exit_code_of([&] { return run_predict_command(argc, argv); });
}
