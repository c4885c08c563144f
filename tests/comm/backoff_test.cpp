#include "comm/backoff.h"

#include <algorithm>

#include <doctest/doctest.h>

namespace dcs3gd::comm {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

/// The shortest of many pauses: what the machine does besides only adds.
Backoff::Duration shortest_pause(const Backoff& backoff, Backoff::Duration waited) {
  constexpr int kTries = 50;
  Backoff::Duration shortest = Backoff::Duration::max();
  for (int i = 0; i < kTries; ++i) {
    const auto start = std::chrono::steady_clock::now();
    backoff.pause(waited);
    shortest = std::min(shortest, std::chrono::steady_clock::now() - start);
  }
  return shortest;
}

TEST_CASE("it asks again at once, then naps for a part of the wait, never for long") {
  const Backoff backoff;
  CHECK(shortest_pause(backoff, microseconds(1)) < microseconds(10));
  CHECK(shortest_pause(backoff, microseconds(400)) >= microseconds(100));
  CHECK(shortest_pause(backoff, milliseconds(1)) >= microseconds(250));
  CHECK(shortest_pause(backoff, milliseconds(1000)) >= microseconds(500));
  CHECK(shortest_pause(backoff, milliseconds(1000)) < milliseconds(5));
}

TEST_CASE("between hosts naps are as long as the wait, never for long") {
  Backoff backoff;
  backoff.set_between_hosts(true);
  CHECK(shortest_pause(backoff, microseconds(1)) < microseconds(10));
  CHECK(shortest_pause(backoff, microseconds(400)) >= microseconds(400));
  CHECK(shortest_pause(backoff, milliseconds(1000)) >= milliseconds(2));
  CHECK(shortest_pause(backoff, milliseconds(1000)) < milliseconds(20));
  for (int i = 0; i < 40; ++i) backoff.learn(microseconds(900));
  CHECK(shortest_pause(backoff, microseconds(1)) >= microseconds(800));
}

TEST_CASE("where waits are usually long it naps from the start, and forgets again") {
  Backoff backoff;
  for (int i = 0; i < 40; ++i) backoff.learn(microseconds(900));
  CHECK(shortest_pause(backoff, microseconds(1)) >= microseconds(200));
  for (int i = 0; i < 40; ++i) backoff.learn(microseconds(5));
  CHECK(shortest_pause(backoff, microseconds(1)) < microseconds(10));
}

TEST_CASE("one straggler does not make it sleepy") {
  Backoff backoff;
  backoff.learn(milliseconds(60000));
  CHECK(shortest_pause(backoff, microseconds(1)) < microseconds(10));
}

}  // namespace
}  // namespace dcs3gd::comm
