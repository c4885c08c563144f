#include "core/reminder.h"

#include <vector>

#include <doctest/doctest.h>

TEST_CASE("a reminder is due after a while, then each time it has lasted twice as long") {
  dcs3gd::Reminder reminder;
  std::vector<int> told_at_s;
  for (int lasted_s = 0; lasted_s < 1000; ++lasted_s) {
    if (reminder.is_due(lasted_s, 30)) told_at_s.push_back(lasted_s);
  }
  CHECK(told_at_s == std::vector<int>{31, 63, 127, 255, 511});
}
