#pragma once

#include <atomic>
#include <chrono>

namespace dcs3gd::comm {

/// How the progress thread waits while its operations stand still: a moment of asking again at once, then naps that
/// grow with the wait. Between ranks of one machine the next segment is microseconds away and a nap would stall the
/// ring; on a slow link it is milliseconds away and asking would take a core from compute. So it learns what is usual.
/// Between machines the link works on while the thread naps, as several segments are in flight: naps may be long.
/// It never yields instead of napping: sched_yield would wait until a computing thread's time slice ends. README.md has
/// the measurements.
class Backoff {
 public:
  using Duration = std::chrono::steady_clock::duration;

  /// Whether ranks are on several machines; at first they are not. By any thread.
  void set_between_hosts(bool between_hosts) { between_hosts_ = between_hosts; }
  /// An operation moved on after having stood still for this long.
  void learn(Duration waited);
  /// Returns after a pause that suits an operation that has stood still for this long.
  void pause(Duration waited) const;

 private:
  std::atomic<bool> between_hosts_ = false;
  Duration usual_wait_{0};  ///< running mean
};

}  // namespace dcs3gd::comm
