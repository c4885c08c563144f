#pragma once

#include <algorithm>

namespace dcs3gd {

/// When to tell of something that lasts: after a while, then each time it has lasted twice as long.
class Reminder {
 public:
  /// Whether to tell now, of what has lasted `lasted_s`; the first time after `first_s`.
  bool is_due(double lasted_s, double first_s) {
    if (lasted_s <= std::max(first_s, 2 * told_at_s_)) return false;
    told_at_s_ = lasted_s;
    return true;
  }

 private:
  double told_at_s_ = 0;
};

}  // namespace dcs3gd
