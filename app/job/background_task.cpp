#include "app/job/background_task.h"

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "app/job/agreement.h"
#include "core/format.h"
#include "core/helper_thread.h"
#include "core/log.h"
#include "core/reminder.h"
#include "core/stopwatch.h"

namespace dcs3gd::app {
namespace {

constexpr double kSilence_s = 30;  // of a wait, before a warning
constexpr double kLongestPause_ms = 100;

}  // namespace

void BackgroundTask::start(std::function<void()> task) {
  running_ = true;
  const auto no_thread = attempt([&] {
    thread_ = std::jthread([this, task = std::move(task)] {
      begin_helper_thread(name_);
      error_ = attempt(task);
      running_ = false;
    });
  });
  if (!no_thread) return;
  error_ = Error(no_thread->kind(), format("{}: {}", name_, no_thread->what()));
  running_ = false;
}

std::optional<Error> BackgroundTask::wait() {
  if (thread_.joinable()) thread_.join();
  return std::exchange(error_, std::nullopt);
}

bool all_done(comm::Communicator& communicator, const BackgroundTask& task, std::string_view what, double patience_s) {
  struct Sign {
    bool is_at_work;
    bool is_patient;
  };
  const Stopwatch watch;
  Reminder reminder;
  for (double pause_ms = 1;; pause_ms = std::min(2 * pause_ms, kLongestPause_ms)) {
    const std::vector<Sign> signs = communicator.gather(Sign{task.is_running(), watch.elapsed_s() < patience_s});
    const auto busy = std::ranges::find(signs, true, &Sign::is_at_work);
    if (busy == signs.end()) return true;
    if (!signs.front().is_patient) return false;
    if (communicator.rank() == 0 && reminder.is_due(watch.elapsed_s(), kSilence_s)) {
      const auto rank = static_cast<std::size_t>(busy - signs.begin());
      log::warn(format("the storage of rank {} on {} is slow: {} is still being written after {:.0f} s; waiting", rank,
                       communicator.places()[rank].host, what, watch.elapsed_s()));
    }
    std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(pause_ms));
  }
}

}  // namespace dcs3gd::app
