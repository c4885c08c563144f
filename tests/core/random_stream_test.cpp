#include "core/random_stream.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <map>
#include <numeric>
#include <set>
#include <vector>

#include <doctest/doctest.h>

using namespace dcs3gd;
using Block = RandomStream::Block;

namespace {

RandomStream test_stream(std::uint64_t seed, std::uint64_t id0 = 0, std::uint64_t id1 = 0, std::uint64_t id2 = 0) {
  return {seed, RandomPurpose::test, id0, id1, id2};
}

/// Σ (observed − expected)² / expected for equally likely bins. Its mean is bins − 1, its deviation √(2·(bins − 1)).
double chi_squared(const std::vector<int>& observed) {
  const double expected = std::accumulate(observed.begin(), observed.end(), 0.0) / static_cast<double>(observed.size());
  double sum = 0;
  for (const int count : observed) sum += (count - expected) * (count - expected) / expected;
  return sum;
}

/// Whether a histogram is as even as chance makes it: five deviations to both sides.
bool looks_even(const std::vector<int>& observed) {
  const double freedom = static_cast<double>(observed.size()) - 1;
  return std::abs(chi_squared(observed) - freedom) < 5 * std::sqrt(2 * freedom);
}

}  // namespace

TEST_CASE("Philox4x32-10 gives Random123's published known answers") {
  CHECK(philox4x32_10({0, 0, 0, 0}, {0, 0}) == Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox4x32_10({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}) ==
        Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("a stream is its blocks one after another, and blocks do not move it") {
  RandomStream stream = test_stream(5, 1, 2, 3);
  for (std::uint64_t index = 0; index < 10; ++index) {
    const Block block = stream.block(index);
    for (const std::uint32_t number : block) CHECK(stream.next_u32() == number);
  }
}

TEST_CASE("the same seed and ids give the same numbers, whatever is drawn elsewhere") {
  RandomStream first = test_stream(5, 1, 2, 3);
  RandomStream second = test_stream(5, 1, 2, 3);
  RandomStream other = test_stream(6);
  for (int i = 0; i < 100; ++i) {
    other.next_u32();
    CHECK(first.next_u32() == second.next_u32());
  }
}

TEST_CASE("no two streams share their numbers") {
  std::set<Block> starts;
  std::size_t streams = 0;
  const auto take = [&](const RandomStream& stream) {
    starts.insert(stream.block(0));
    ++streams;
  };
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    for (std::uint64_t a = 0; a < 8; ++a) {
      for (std::uint64_t b = 0; b < 8; ++b) {
        for (std::uint64_t c = 0; c < 8; ++c) {
          take({seed, RandomPurpose::test, a, b, c});
          take({seed, RandomPurpose::dropout, a, b, c});
        }
      }
    }
  }
  CHECK(starts.size() == streams);
}

TEST_CASE("neighbouring streams are uncorrelated") {
  constexpr int kNumbers = 100000;
  for (const auto& [left_id, right_id] : {std::pair{0, 1}, std::pair{1, 2}, std::pair{7, 8}}) {
    RandomStream left = test_stream(1, static_cast<std::uint64_t>(left_id));
    RandomStream right = test_stream(1, static_cast<std::uint64_t>(right_id));
    double covariance = 0;
    for (int i = 0; i < kNumbers; ++i) covariance += (left.uniform() - 0.5) * (right.uniform() - 0.5);
    // Each product has variance 1/144; five deviations of the mean.
    CHECK(std::abs(covariance / kNumbers) < 5.0 / 12 / std::sqrt(kNumbers));
  }
}

TEST_CASE("uniform() is even over [0, 1)") {
  constexpr int kNumbers = 200000;
  RandomStream stream = test_stream(2);
  std::vector<int> bins(64);
  for (int i = 0; i < kNumbers; ++i) {
    const float value = stream.uniform();
    REQUIRE(value >= 0);
    REQUIRE(value < 1);
    ++bins[static_cast<std::size_t>(value * 64)];
  }
  CHECK(looks_even(bins));
}

TEST_CASE("uniform(low, high) covers its range") {
  RandomStream stream = test_stream(3);
  float lowest = 9;
  float highest = -9;
  for (int i = 0; i < 10000; ++i) {
    const float value = stream.uniform(-2, 5);
    lowest = std::min(lowest, value);
    highest = std::max(highest, value);
  }
  CHECK(lowest >= -2);
  CHECK(lowest < -1.99F);
  CHECK(highest > 4.99F);
  CHECK(highest <= 5);
}

TEST_CASE("normal() has the moments and tails of a normal distribution") {
  constexpr int kNumbers = 200000;
  RandomStream stream = test_stream(4);
  double moments[5] = {};
  int beyond_two_sigma = 0;
  double neighbours = 0;
  double previous = 0;
  for (int i = 0; i < kNumbers; ++i) {
    const double value = stream.normal();
    REQUIRE(std::isfinite(value));
    for (int power = 1; power <= 4; ++power) moments[power] += std::pow(value, power) / kNumbers;
    beyond_two_sigma += std::abs(value) > 2 ? 1 : 0;
    neighbours += value * previous / kNumbers;
    previous = value;
  }
  // Five deviations of each estimate; the moments have variance 1, 2, 15 and 96 over the number of draws.
  const double unit = 5 / std::sqrt(kNumbers);
  CHECK(std::abs(moments[1]) < unit);
  CHECK(std::abs(moments[2] - 1) < unit * std::sqrt(2));
  CHECK(std::abs(moments[3]) < unit * std::sqrt(15));
  CHECK(std::abs(moments[4] - 3) < unit * std::sqrt(96));
  CHECK(std::abs(neighbours) < unit);
  constexpr double kTail = 0.0455002639;
  CHECK(std::abs(beyond_two_sigma / static_cast<double>(kNumbers) - kTail) < unit * std::sqrt(kTail * (1 - kTail)));
}

TEST_CASE("below() is even over its range") {
  for (const std::uint32_t bound : {1U, 2U, 3U, 7U, 10U, 1000U}) {
    CAPTURE(bound);
    RandomStream stream = test_stream(5, bound);
    std::vector<int> bins(bound);
    for (std::uint32_t i = 0; i < 100 * bound + 10000; ++i) {
      const std::uint32_t value = stream.below(bound);
      REQUIRE(value < bound);
      ++bins[value];
    }
    if (bound > 1) CHECK(looks_even(bins));
  }
}

TEST_CASE("below() has no bias where the range does not divide 2^32") {
  // Scaling 32 random bits to 3·2^30 values without rejection would give the multiples of three twice as often.
  constexpr int kNumbers = 30000;
  RandomStream stream = test_stream(6);
  std::vector<int> remainders(3);
  for (int i = 0; i < kNumbers; ++i) ++remainders[stream.below(3U << 30) % 3];
  CHECK(looks_even(remainders));
}

TEST_CASE("shuffle() permutes, by the stream alone") {
  std::vector<std::uint32_t> values(1000);
  std::iota(values.begin(), values.end(), 0U);
  const std::vector<std::uint32_t> ordered = values;
  std::vector<std::uint32_t> again = values;
  std::vector<std::uint32_t> other = values;

  RandomStream first = test_stream(7, 1);
  RandomStream second = test_stream(7, 1);
  RandomStream third = test_stream(7, 2);
  shuffle(values, first);
  shuffle(again, second);
  shuffle(other, third);
  CHECK(values == again);
  CHECK(values != other);
  CHECK(values != ordered);
  std::sort(values.begin(), values.end());
  CHECK(values == ordered);

  std::vector<std::uint32_t> nothing;
  shuffle(nothing, first);
  std::vector<std::uint32_t> single{42};
  shuffle(single, first);
  CHECK(single.front() == 42);
}

TEST_CASE("shuffle() gives every order alike often") {
  RandomStream stream = test_stream(8);
  std::map<std::array<std::uint32_t, 4>, int> seen;
  for (int i = 0; i < 24000; ++i) {
    std::array<std::uint32_t, 4> values{0, 1, 2, 3};
    shuffle(values, stream);
    ++seen[values];
  }
  REQUIRE(seen.size() == 24);
  std::vector<int> counts;
  for (const auto& [order, count] : seen) counts.push_back(count);
  CHECK(looks_even(counts));
}
