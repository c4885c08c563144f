// A job that averages for ever until a fault ends it; fault_test.py starts it, does harm and looks at what is left.
//   fault_program ALGORITHM FAULT TIMEOUT_S     ALGORITHM: ring, shared or mpi
// FAULT is what rank 1 does after a few steps: none, throw, unwind, absent, exit

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <thread>

#include <unistd.h>

#include "comm/communicator.h"
#include "core/error.h"
#include "core/format.h"

namespace dcs3gd::comm {
namespace {

constexpr int kFaultyRank = 1;
constexpr int kFaultyStep = 20;

/// Starts averaging before the fault, so that an operation is in flight.
void average_for_ever(Communicator& communicator, const std::string& algorithm, const std::string& fault) {
  constexpr std::size_t kFloats = 1000000;
  const std::shared_ptr<float> memory = communicator.allocate(kFloats);
  const std::span values(memory.get(), kFloats);
  std::ranges::fill(values, 1.0F);
  AllReducePlan plan = communicator.plan_all_reduce({.values = values});
  if (plan.algorithm() != algorithm) throw Error(ErrorKind::failure, "it is another algorithm");
  for (int step = 0;; ++step) {
    Ticket ticket = plan.start();
    if (communicator.rank() == kFaultyRank && step == kFaultyStep) {
      if (fault == "throw" || fault == "unwind") throw Error(ErrorKind::diverged, "the loss is not finite");
      if (fault == "exit") std::_Exit(0);
      if (fault == "absent") {
        ticket.wait();
        for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
      }
    }
    ticket.wait();
  }
}

int run(const std::string& algorithm, const std::string& fault, double timeout_s) {
  const auto communicator = Communicator::open({.algorithm = algorithm, .timeout_s = timeout_s});
  std::printf("pid %d\n", static_cast<int>(getpid()));
  std::fflush(stdout);
  if (fault == "unwind") average_for_ever(*communicator, algorithm, fault);
  try {
    average_for_ever(*communicator, algorithm, fault);
  } catch (const Error& error) {
    communicator->abort(error.what(), error.exit_code());
    return error.exit_code();
  }
  return 0;
}

}  // namespace
}  // namespace dcs3gd::comm

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  try {
    return dcs3gd::comm::run(argv[1], argv[2], std::atof(argv[3]));
  } catch (const dcs3gd::Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return error.exit_code();
  }
}
