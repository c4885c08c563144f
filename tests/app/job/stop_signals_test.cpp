#include "app/job/stop_signals.h"

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <optional>
#include <string>
#include <thread>

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/error.h"
#include "tests/support/file_helpers.h"

using namespace dcs3gd;
using namespace dcs3gd::app;

namespace {

constexpr double kNow_s = 1e9;

TimeLimit limit(std::optional<double> minutes, const char* slurm_end, double* now_s) {
  return TimeLimit(
      minutes, [=](const char*) { return slurm_end; }, [=] { return *now_s; });
}

/// The exit code of a process that is asked to stop in a step of this many seconds.
int exit_code_of_step(double step_s, double patience_s, std::optional<double> killed_in_s) {
  const pid_t child = fork();
  if (child == 0) {
    StopSignals signals(false);
    signals.set_patience(patience_s, killed_in_s);
    signals.step_begins();
    raise(SIGUSR1);
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(step_s);
    while (std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    signals.step_ends();
    _exit(signals.received() ? 75 : 0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

TEST_CASE("a jump of the system's clock does not move a limit in minutes") {
  double now_s = kNow_s;
  const TimeLimit by_minutes = limit(10, nullptr, &now_s);
  for (const double jump_s : {3600.0, -3600.0}) {
    now_s = kNow_s + jump_s;
    CHECK_FALSE(by_minutes.is_up());
    CHECK(by_minutes.left_s().value() == doctest::Approx(600).epsilon(0.05));
  }
  const TimeLimit over = limit(1e-6, nullptr, &now_s);
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
  CHECK(over.is_up());
}

TEST_CASE("Slurm's end of the job is one of the system's clock, and 90 s are kept to save") {
  double now_s = kNow_s;
  const TimeLimit by_slurm = limit(std::nullopt, "1000000200", &now_s);
  CHECK(by_slurm.left_s() == 110);
  CHECK(by_slurm.killed_in_s() == 200);
  now_s += 111;
  CHECK(by_slurm.is_up());
  CHECK(limit(1, "1000000400", &now_s).left_s().value() == doctest::Approx(60).epsilon(0.05));
  for (const char* nothing : {"", "0", "soon", "nan", "inf"}) CHECK_FALSE(limit({}, nothing, &now_s).left_s());
}

TEST_CASE("a limit that is over at the start is refused by its name") {
  double now_s = kNow_s;
  CHECK(test::contains(test::error_of([&] { limit({}, "1000000060", &now_s); }).what(),
                       "SLURM_JOB_END_TIME=1000000060: the job ends"));
  CHECK(test::contains(test::error_of([&] { limit({}, "999999000", &now_s); }).what(), "the job ended 1000 s ago"));
}

TEST_CASE("after a signal a step has its time, and no more") {
  CHECK(exit_code_of_step(1.5, 60, {}) == 75);
  CHECK(exit_code_of_step(60, 2, {}) == EXIT_FAILURE);
  CHECK(exit_code_of_step(60, 60, 6) == EXIT_FAILURE);
}
