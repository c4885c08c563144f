#include "app/job/stop_signals.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <iterator>
#include <limits>
#include <utility>

#include <unistd.h>

#include "core/error.h"
#include "core/format.h"

namespace dcs3gd::app {
namespace {

constexpr int kSignals[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU};
constexpr double kOrphansPatience_s = 10;
constexpr double kUsualPatience_s = 300;
constexpr double kLongestPatience_s = 1e9;
constexpr double kPatienceSteps = 5;  // times the longest step so far
constexpr double kSlurmReserve_s = 90;
constexpr double kLastWordsReserve_s = 5;
constexpr unsigned kTick_s = 1;
constexpr const char* kSlurmEnd = "SLURM_JOB_END_TIME";

double seconds(auto time) { return std::chrono::duration<double>(time.time_since_epoch()).count(); }
double now_s() { return seconds(std::chrono::steady_clock::now()); }

// What the handlers touch.
static_assert(std::atomic<unsigned>::is_always_lock_free && std::atomic<double>::is_always_lock_free);
std::atomic<unsigned> received_count = 0;
std::atomic<unsigned> interrupts = 0;
std::atomic<bool> in_step = false;
std::atomic<unsigned> ticks = 0;  // since the signal, or since the step after it began
std::atomic<double> patience_s = kUsualPatience_s;
std::atomic<double> orphans_patience_s = kOrphansPatience_s;
std::atomic<double> killed_at_s = std::numeric_limits<double>::infinity();
std::atomic<pid_t> launcher = 0;  // 0: none
struct sigaction saved_actions[std::size(kSignals)];
struct sigaction saved_alarm;

// Whether hang-ups are ignored (nohup) is looked at before libraries begin: UCX, which Open MPI 5 loads, takes SIGHUP.
bool hang_ups_are_ignored = false;
void look_at_hang_ups() {
  struct sigaction action {};
  hang_ups_are_ignored = sigaction(SIGHUP, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}
[[gnu::section(".preinit_array"), gnu::used]] void (*before_libraries)() = look_at_hang_ups;

void on_signal(int number) {
  received_count = received_count + 1;
  if (number == SIGINT && interrupts.fetch_add(1) > 0) {
    std::signal(SIGINT, SIG_DFL);
    raise(SIGINT);  // arrives when this handler returns
    return;
  }
  if (in_step) alarm(kTick_s);
}

/// Every second, so that it sees the launcher go, and that time in which the process stands still does not count.
void on_alarm(int) {
  if (!in_step) return;
  ticks = ticks + kTick_s;
  const bool is_orphan = launcher != 0 && getppid() != launcher;
  if (ticks < (is_orphan ? orphans_patience_s : patience_s) && now_s() < killed_at_s) {
    alarm(kTick_s);
    return;
  }
  constexpr char kMessage[] =
      "error: asked to stop, but the step does not end: another rank may be gone; the last checkpoint counts\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1);
  _exit(EXIT_FAILURE);
}

}  // namespace

StopSignals::StopSignals(bool has_launcher) {
  received_count = 0;
  interrupts = 0;
  launcher = has_launcher ? getppid() : 0;
  set_patience(kUsualPatience_s, std::nullopt);
  step_begins();  // the start, to begin with
  struct sigaction action {};
  action.sa_flags = SA_RESTART;
  action.sa_handler = on_alarm;
  sigaction(SIGALRM, &action, &saved_alarm);
  action.sa_handler = on_signal;
  for (std::size_t i = 0; i < std::size(kSignals); ++i) {
    sigaction(kSignals[i], &action, &saved_actions[i]);
    const bool is_ignored = hang_ups_are_ignored || saved_actions[i].sa_handler == SIG_IGN;
    if (kSignals[i] == SIGHUP && is_ignored) std::signal(SIGHUP, SIG_IGN);
  }
}

StopSignals::~StopSignals() {
  alarm(0);
  for (std::size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &saved_actions[i], nullptr);
  sigaction(SIGALRM, &saved_alarm, nullptr);
}

bool StopSignals::received() const { return received_count > 0; }

void StopSignals::set_patience(double limit_s, std::optional<double> killed_in_s) {
  configured_patience_s_ = std::min(limit_s, kLongestPatience_s);
  killed_at_s = killed_in_s ? now_s() + *killed_in_s - kLastWordsReserve_s : std::numeric_limits<double>::infinity();
}

void StopSignals::step_begins() {
  begin_s_ = now_s();
  patience_s = std::max(configured_patience_s_, kPatienceSteps * longest_step_s_);
  orphans_patience_s = std::max(kOrphansPatience_s, kPatienceSteps * longest_step_s_);
  ticks = 0;
  in_step = true;
  if (received()) alarm(kTick_s);
}

void StopSignals::step_ends() {
  in_step = false;
  if (received()) alarm(0);
  // A suspended process is one slow step, slow computing several.
  const double last_step_s = std::exchange(last_step_s_, now_s() - begin_s_);
  longest_step_s_ = std::max(longest_step_s_, std::min(last_step_s, last_step_s_));
}

double TimeLimit::system_clock_s() { return seconds(std::chrono::system_clock::now()); }

TimeLimit::TimeLimit(std::optional<double> minutes, const std::function<const char*(const char*)>& environment,
                     std::function<double()> system_now_s)
    : system_now_s_(std::move(system_now_s)) {
  if (minutes) end_s_ = now_s() + 60 * *minutes;
  const char* const slurm = environment(kSlurmEnd);
  const double slurm_end_s = slurm == nullptr ? 0 : std::strtod(slurm, nullptr);
  if (!(slurm_end_s > 0) || !std::isfinite(slurm_end_s)) return;
  slurm_end_s_ = slurm_end_s;
  if (const double left_s = *killed_in_s(); left_s < kSlurmReserve_s) {
    throw Error(
        ErrorKind::input,
        format("{}={}: the job {}, and a run stops {:.0f} s before its end to save: ask for more time, or unset "
               "the variable if it is not this job's",
               kSlurmEnd, slurm,
               left_s < 0 ? format("ended {:.0f} s ago", -left_s) : format("ends in {:.0f} s", left_s),
               kSlurmReserve_s));
  }
}

bool TimeLimit::is_up() const { return left_s().value_or(1) <= 0; }

std::optional<double> TimeLimit::left_s() const {
  const double by_minutes = end_s_ ? *end_s_ - now_s() : std::numeric_limits<double>::infinity();
  if (!slurm_end_s_) return end_s_ ? std::optional(by_minutes) : std::nullopt;
  return std::min(by_minutes, *killed_in_s() - kSlurmReserve_s);
}

std::optional<double> TimeLimit::killed_in_s() const {
  return slurm_end_s_ ? std::optional(*slurm_end_s_ - system_now_s_()) : std::nullopt;
}

}  // namespace dcs3gd::app
