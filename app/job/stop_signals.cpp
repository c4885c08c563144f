#include "app/job/stop_signals.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <iterator>

#include <unistd.h>

namespace dcs3gd::app {
namespace {

constexpr int kSignals[] = {SIGTERM, SIGINT, SIGUSR1};
constexpr unsigned kShortestPatience_s = 10;
constexpr double kPatienceSteps = 5;  // times the longest step so far
constexpr double kSlurmReserve_s = 90;

// What the handlers touch.
static_assert(std::atomic<unsigned>::is_always_lock_free);
std::atomic<unsigned> received_count = 0;
std::atomic<unsigned> interrupts = 0;
std::atomic<unsigned> patience_s = 0;  // while a step is at work, else 0
struct sigaction saved_actions[std::size(kSignals)];
struct sigaction saved_alarm;

void on_signal(int number) {
  received_count = received_count + 1;
  if (number == SIGINT && interrupts.fetch_add(1) > 0) {
    std::signal(SIGINT, SIG_DFL);
    raise(SIGINT);  // arrives when this handler returns
    return;
  }
  if (const unsigned patience = patience_s; patience > 0) alarm(patience);
}

void on_alarm(int) {
  constexpr char kMessage[] =
      "error: asked to stop, but the step does not end: another rank may be gone; the last checkpoint counts\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1);
  _exit(EXIT_FAILURE);
}

double seconds(auto time) { return std::chrono::duration<double>(time.time_since_epoch()).count(); }
double now_s() { return seconds(std::chrono::steady_clock::now()); }
double system_now_s() { return seconds(std::chrono::system_clock::now()); }

}  // namespace

StopSignals::StopSignals() {
  received_count = 0;
  interrupts = 0;
  struct sigaction action {};
  action.sa_flags = SA_RESTART;
  action.sa_handler = on_signal;
  for (std::size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &action, &saved_actions[i]);
  action.sa_handler = on_alarm;
  sigaction(SIGALRM, &action, &saved_alarm);
}

StopSignals::~StopSignals() {
  alarm(0);
  for (std::size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &saved_actions[i], nullptr);
  sigaction(SIGALRM, &saved_alarm, nullptr);
}

bool StopSignals::received() const { return received_count > 0; }

void StopSignals::step_begins() {
  begin_s_ = now_s();
  const double patience = std::ceil(kPatienceSteps * longest_step_s_);
  patience_s = std::max(kShortestPatience_s, static_cast<unsigned>(patience));
  if (received()) alarm(patience_s);
}

void StopSignals::step_ends() {
  patience_s = 0;
  if (received()) alarm(0);
  longest_step_s_ = std::max(longest_step_s_, now_s() - begin_s_);
}

TimeLimit::TimeLimit(std::optional<double> minutes, const std::function<const char*(const char*)>& environment) {
  if (minutes) end_s_ = system_now_s() + 60 * *minutes;
  const char* const slurm = environment("SLURM_JOB_END_TIME");
  const double slurm_end_s = slurm == nullptr ? 0 : std::strtod(slurm, nullptr);
  if (slurm_end_s > 0) end_s_ = std::min(end_s_.value_or(slurm_end_s), slurm_end_s - kSlurmReserve_s);
}

bool TimeLimit::is_up() const { return end_s_ && system_now_s() >= *end_s_; }

std::optional<double> TimeLimit::left_s() const {
  return end_s_ ? std::optional(*end_s_ - system_now_s()) : std::nullopt;
}

}  // namespace dcs3gd::app
