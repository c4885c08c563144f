#include "app/job/background_task.h"

#include <utility>

#include "app/job/agreement.h"
#include "core/helper_thread.h"

namespace dcs3gd::app {

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
  error_ = no_thread;
  running_ = false;
}

std::optional<Error> BackgroundTask::wait() {
  if (thread_.joinable()) thread_.join();
  return std::exchange(error_, std::nullopt);
}

}  // namespace dcs3gd::app
