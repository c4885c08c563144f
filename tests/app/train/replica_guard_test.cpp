#include "app/train/replica_guard.h"

#include <atomic>
#include <bit>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "comm/thread_world.h"

using namespace dcs3gd;
using app::ReplicaGuard;

namespace {

/// The steps of a round at which the sums are not 0, with one bit of one rank's copy flipped, or none.
std::set<std::int64_t> alarms(int ranks, std::size_t length, int odd_rank, std::size_t at, int bit) {
  std::set<std::int64_t> steps;
  std::atomic<int> odd_texts = 0;
  comm::run_ranks_as_threads(ranks, {}, [&](comm::Communicator& communicator) {
    std::vector<float> replica(length);
    for (std::size_t i = 0; i < length; ++i) replica[i] = 0.01F * static_cast<float>(i);
    if (communicator.rank() == odd_rank) {
      replica[at] = std::bit_cast<float>(std::bit_cast<std::uint32_t>(replica[at]) ^ (1U << bit));
    }
    ReplicaGuard guard(communicator);
    for (std::int64_t step = 1000; step < 1000 + ReplicaGuard::kParts; ++step) {
      ReplicaGuard::Numbers sums = guard.look_at(step, replica);
      communicator.plan_all_reduce({.values = {}, .tail = sums}).start().wait();
      if (sums[0] == 0 && sums[1] == 0) continue;
      const std::vector<std::string> seen = communicator.all_gather(guard.seen());
      if (communicator.rank() != 0) continue;
      steps.insert(step);
      odd_texts += static_cast<int>(std::set(seen.begin(), seen.end()).size()) == 2 ? 1 : 0;
    }
  });
  CHECK(odd_texts == static_cast<int>(steps.size()));
  return steps;
}

}  // namespace

TEST_CASE("equal replicas raise no alarm, on any number of ranks and of any length") {
  for (const int ranks : {1, 2, 3, 4, 5, 8}) {
    for (const std::size_t length : {std::size_t{1}, std::size_t{63}, std::size_t{64}, std::size_t{1000}}) {
      CHECK(alarms(ranks, length, -1, 0, 0).empty());
    }
  }
}

TEST_CASE("one bit of one rank is found once in a round, wherever it is") {
  for (const int ranks : {2, 3, 4, 7}) {
    for (int odd = 0; odd < ranks; ++odd) {
      for (const std::size_t at : {std::size_t{0}, std::size_t{500}, std::size_t{999}}) {
        CAPTURE(ranks);
        CAPTURE(odd);
        CAPTURE(at);
        CHECK(alarms(ranks, 1000, odd, at, (7 * odd + static_cast<int>(at)) % 32).size() == 1);
      }
    }
  }
}
