#include "app/train/slowdown.h"

#include <algorithm>
#include <cstddef>

namespace dcs3gd::app {

std::optional<double> Slowdown::add(double step_ms) {
  constexpr std::size_t kWindow = 101;
  constexpr std::size_t kFewest = 11;  // the first steps are slow by nature
  constexpr double kFactor = 10;
  constexpr double kPatience_ms = 60e3;
  std::vector<double> sorted = usual_ms_;
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  if (sorted.size() < kFewest || step_ms <= kFactor * *middle) {
    slow_ms_ = 0;
    told_ = false;
    if (usual_ms_.size() < kWindow) usual_ms_.resize(usual_ms_.size() + 1);
    usual_ms_[next_] = step_ms;
    next_ = (next_ + 1) % kWindow;
    return std::nullopt;
  }
  slow_ms_ += std::min(step_ms, kPatience_ms / 3);  // one step alone may have been a suspension
  if (told_ || slow_ms_ < kPatience_ms) return std::nullopt;
  told_ = true;
  return *middle;
}

}  // namespace dcs3gd::app
