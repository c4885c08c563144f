#include "app/train/slowdown.h"

#include <doctest/doctest.h>

using dcs3gd::app::Slowdown;

namespace {

/// How often it speaks in so many steps of this length.
int warnings(Slowdown& slowdown, int steps, double step_ms) {
  int count = 0;
  for (int step = 0; step < steps; ++step) count += slowdown.add(step_ms).has_value() ? 1 : 0;
  return count;
}

}  // namespace

TEST_CASE("a minute of steps ten times as slow as before is told of once, with what was usual") {
  Slowdown slowdown;
  CHECK(warnings(slowdown, 1, 5000) == 0);
  CHECK(warnings(slowdown, 500, 12) == 0);
  CHECK(warnings(slowdown, 29, 2000) == 0);
  CHECK(slowdown.add(2000) == 12);
  CHECK(warnings(slowdown, 1000, 2000) == 0);
  CHECK(warnings(slowdown, 10, 12) == 0);
  CHECK(warnings(slowdown, 40, 2000) == 1);
}

TEST_CASE("single slow steps, and a run that is only somewhat slower, are no reason to speak") {
  Slowdown slowdown;
  CHECK(warnings(slowdown, 50, 100) == 0);
  for (int stall = 0; stall < 20; ++stall) {
    CHECK(warnings(slowdown, 1, 50000) == 0);
    CHECK(warnings(slowdown, 1, 100) == 0);
  }
  CHECK(warnings(slowdown, 200, 900) == 0);
}
