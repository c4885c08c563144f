#include "nn/plan/memory_plan.h"

#include <algorithm>

#include <doctest/doctest.h>

#include "core/random_stream.h"

using namespace dcs3gd;
using namespace dcs3gd::nn;

namespace {

constexpr std::size_t kAlignment = 64;

std::size_t aligned(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

std::vector<Lifetime> random_lifetimes(std::uint64_t seed) {
  RandomStream random(seed, RandomPurpose::test, 4);
  const std::uint32_t operations = 1 + random.below(40);
  std::vector<Lifetime> lifetimes(random.below(60));
  for (Lifetime& lifetime : lifetimes) {
    lifetime.bytes = random.below(2000);
    lifetime.first = random.below(operations);
    lifetime.last = lifetime.first + random.below(operations);
  }
  return lifetimes;
}

std::size_t sum_of_bytes(const std::vector<Lifetime>& lifetimes) {
  std::size_t sum = 0;
  for (const Lifetime& lifetime : lifetimes) sum += aligned(lifetime.bytes);
  return sum;
}

/// Bytes that are alive together at the worst moment: no plan needs less.
std::size_t most_concurrent_bytes(const std::vector<Lifetime>& lifetimes) {
  std::size_t most = 0;
  for (const Lifetime& now : lifetimes) {
    std::size_t alive = 0;
    for (const Lifetime& other : lifetimes) {
      if (other.first <= now.first && now.first <= other.last) alive += aligned(other.bytes);
    }
    most = std::max(most, alive);
  }
  return most;
}

void check_plan(const std::vector<Lifetime>& lifetimes) {
  const MemoryPlan plan = plan_memory(lifetimes);
  REQUIRE(plan.offsets.size() == lifetimes.size());
  CHECK(plan.total_bytes >= most_concurrent_bytes(lifetimes));
  CHECK(plan.total_bytes <= sum_of_bytes(lifetimes));
  for (std::size_t a = 0; a < lifetimes.size(); ++a) {
    CHECK(plan.offsets[a] % kAlignment == 0);
    CHECK(plan.offsets[a] + lifetimes[a].bytes <= plan.total_bytes);
    for (std::size_t b = 0; b < a; ++b) {
      const bool together = lifetimes[a].first <= lifetimes[b].last && lifetimes[b].first <= lifetimes[a].last;
      const bool share_bytes = plan.offsets[a] < plan.offsets[b] + lifetimes[b].bytes &&
                               plan.offsets[b] < plan.offsets[a] + lifetimes[a].bytes;
      CHECK_FALSE((together && share_bytes));
    }
  }
}

}  // namespace

TEST_CASE("blocks alive together never share a byte, and the plan is no larger than all blocks side by side") {
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    CAPTURE(seed);
    check_plan(random_lifetimes(seed));
  }
}

TEST_CASE("blocks that follow each other share their bytes") {
  const std::vector<Lifetime> chain{{.bytes = 640, .first = 0, .last = 1},
                                    {.bytes = 640, .first = 1, .last = 2},
                                    {.bytes = 640, .first = 2, .last = 3},
                                    {.bytes = 640, .first = 3, .last = 4}};
  CHECK(plan_memory(chain).total_bytes == 2 * 640);
}

TEST_CASE("a small block goes into the gap below a larger one") {
  const std::vector<Lifetime> blocks{{.bytes = 1024, .first = 0, .last = 1},
                                     {.bytes = 512, .first = 1, .last = 3},
                                     {.bytes = 128, .first = 2, .last = 3}};
  const MemoryPlan plan = plan_memory(blocks);
  CHECK(plan.total_bytes == 1024 + 512);
  CHECK(plan.offsets[2] == 0);
}

TEST_CASE("nothing to place needs no memory") { CHECK(plan_memory({}).total_bytes == 0); }
