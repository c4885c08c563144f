#pragma once

#include <cstddef>
#include <optional>
#include <vector>

namespace dcs3gd::app {

/// Notices that a run has become much slower than it was, and stays so: a link that fell back, a host that throttles.
class Slowdown {
 public:
  /// Takes the time of a step. Once in a slow stretch, when it has lasted for a minute: what steps took before, in
  /// milliseconds.
  std::optional<double> add(double step_ms);

 private:
  std::vector<double> usual_ms_;  ///< of the latest steps that were not slow, in turn
  std::size_t next_ = 0;
  double slow_ms_ = 0;  ///< that the slow stretch has lasted for
  bool told_ = false;   ///< of it
};

}  // namespace dcs3gd::app
