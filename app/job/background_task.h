#pragma once

#include <atomic>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "comm/communicator.h"
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

/// Collective: waits until no rank's task is at work. The ranks hear of each other meanwhile, so storage that hangs on
/// one of them is no time-out on the others; a warning says who is waited for, again whenever it has taken twice as
/// long. False if it takes longer than `patience_s` by rank 0's clock. `what` is what the tasks make.
bool all_done(comm::Communicator& communicator, const BackgroundTask& task, std::string_view what,
              double patience_s = std::numeric_limits<double>::infinity());

}  // namespace dcs3gd::app
