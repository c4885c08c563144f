#include "core/vector_math.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <doctest/doctest.h>
#include <omp.h>

#include "core/parallel_blocks.h"
#include "core/random_stream.h"

using namespace dcs3gd;

namespace {

const std::size_t kAwkwardSizes[] = {0, 1, 15, 16, 17, kBlockElements - 1, kBlockElements, kBlockElements + 1, 50001};

/// Integers −3 … 3: every sum and product of them is exact.
std::vector<float> small_integers(std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i % 7) - 3;
  return values;
}

std::vector<float> normal_numbers(std::size_t count) {
  RandomStream random(1, RandomPurpose::test, count);
  std::vector<float> values(count);
  for (float& value : values) value = random.normal();
  return values;
}

/// The documented order of the sum in plain scalar code: 16 partial sums a block, then block after block.
double squared_norm_in_order(const std::vector<float>& x) {
  double total = 0;
  for (std::size_t first = 0; first < x.size(); first += kBlockElements) {
    double lanes[16] = {};
    const std::size_t end = std::min(first + kBlockElements, x.size());
    for (std::size_t i = first; i < end; ++i) lanes[i % 16] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    double sum = 0;
    for (const double lane : lanes) sum += lane;
    total += sum;
  }
  return total;
}

template <typename Function>
void for_threads_1_to_3(Function function) {
  const int before = omp_get_max_threads();
  for (const int threads : {1, 2, 3}) {
    CAPTURE(threads);
    omp_set_num_threads(threads);
    function();
  }
  omp_set_num_threads(before);
}

}  // namespace

TEST_CASE("blocks cover an array once, without gaps") {
  for (const std::size_t size : kAwkwardSizes) {
    CAPTURE(size);
    std::vector<int> visits(size);
    for_each_block(size, [&](std::size_t first, std::size_t count) {
      CHECK(first % kBlockElements == 0);
      CHECK(count <= kBlockElements);
      for (std::size_t i = first; i < first + count; ++i) ++visits[i];
    });
    CHECK(visits == std::vector<int>(size, 1));
  }
}

TEST_CASE("squared_norm is exact on small integers") {
  for (const std::size_t size : kAwkwardSizes) {
    CAPTURE(size);
    const std::vector<float> values = small_integers(size);
    std::int64_t expected = 0;
    for (const float value : values) expected += static_cast<std::int64_t>(value * value);
    for_threads_1_to_3([&] { CHECK(squared_norm(values) == static_cast<double>(expected)); });
  }
}

TEST_CASE("squared_norm adds in the documented order on every number of threads and instruction set") {
  for (const std::size_t size : kAwkwardSizes) {
    CAPTURE(size);
    const std::vector<float> values = normal_numbers(size);
    const double expected = squared_norm_in_order(values);
    for_threads_1_to_3([&] { CHECK(squared_norm(values) == expected); });
  }
}

TEST_CASE("squared_norm of large finite numbers is finite, one NaN or Inf anywhere shows") {
  std::vector<float> values(50001, std::numeric_limits<float>::max());
  CHECK(std::isfinite(squared_norm(values)));
  for (const float poison : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                             -std::numeric_limits<float>::infinity()}) {
    for (const std::size_t place : {std::size_t{0}, kBlockElements, std::size_t{33333}, std::size_t{50000}}) {
      CAPTURE(place);
      const float saved = values[place];
      values[place] = poison;
      CHECK_FALSE(std::isfinite(squared_norm(values)));
      values[place] = saved;
    }
  }
}

TEST_CASE("add and scale are exact on small integers and touch nothing else") {
  for (const std::size_t size : kAwkwardSizes) {
    CAPTURE(size);
    const std::vector<float> x = small_integers(size);
    for_threads_1_to_3([&] {
      std::vector<float> sum(size + 1, 10);
      add(x, {sum.data(), size});
      scale(-2, {sum.data(), size});
      std::vector<float> expected(size + 1, 10);
      for (std::size_t i = 0; i < size; ++i) expected[i] = -2 * (10 + x[i]);
      CHECK(sum == expected);
    });
  }
}

TEST_CASE("move_towards goes a share of the way and touches nothing else") {
  for (const std::size_t size : kAwkwardSizes) {
    CAPTURE(size);
    const std::vector<float> x = small_integers(size);
    for_threads_1_to_3([&] {
      std::vector<float> values(size + 1, 8);
      move_towards(x, 0.25F, {values.data(), size});
      std::vector<float> expected(size + 1, 8);
      for (std::size_t i = 0; i < size; ++i) expected[i] = 8 + 0.25F * (x[i] - 8);
      CHECK(values == expected);
    });
  }
}
