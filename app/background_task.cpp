#include "app/background_task.h"

#include <csignal>
#include <utility>

#include <pthread.h>

#include "app/agreement.h"

namespace dcs3gd::app {
namespace {

void prepare_thread(const std::string& name) {
  pthread_setname_np(pthread_self(), name.c_str());
  // Signals are the main thread's business.
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

}  // namespace

void BackgroundTask::start(std::function<void()> task) {
  running_ = true;
  const auto no_thread = attempt([&] {
    thread_ = std::jthread([this, task = std::move(task)] {
      prepare_thread(name_);
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
