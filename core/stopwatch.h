#pragma once

#include <chrono>

namespace dcs3gd {

/// Seconds since construction or the last restart(), by the monotonic clock.
class Stopwatch {
 public:
  double elapsed_s() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
  double elapsed_ms() const { return 1e3 * elapsed_s(); }
  /// Starts anew and returns what had elapsed.
  double restart_s() {
    const double elapsed = elapsed_s();
    start_ = Clock::now();
    return elapsed;
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

}  // namespace dcs3gd
