#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <thread>

#include "core/error.h"

namespace dcs3gd::app {

/// Work that must not hold up the caller: one task at a time, each in a thread of this name, which takes no signals.
/// All members are called by one thread.
class BackgroundTask {
 public:
  /// At most 15 letters.
  explicit BackgroundTask(std::string name) : name_(std::move(name)) {}

  /// Starts a task; the one before is over and waited for. The destructor waits for its end. Without a thread to be had
  /// the task has failed.
  void start(std::function<void()> task);
  /// Whether a task is at work.
  bool is_running() const { return running_; }
  /// Waits for the end of the task, if there is one; what it threw.
  std::optional<Error> wait();

 private:
  const std::string name_;
  std::atomic<bool> running_ = false;
  std::optional<Error> error_;  ///< the thread's while there is one
  std::jthread thread_;
};

}  // namespace dcs3gd::app
