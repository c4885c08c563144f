#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include <doctest/doctest.h>
#include <omp.h>

#include "core/random_stream.h"

/// What the tests of core/optim share.
namespace dcs3gd::optim::test {

inline std::vector<float> normal_numbers(std::size_t count, std::uint64_t id, float deviation = 1) {
  RandomStream random(1, RandomPurpose::test, id);
  std::vector<float> numbers(count);
  for (float& number : numbers) number = deviation * random.normal();
  return numbers;
}

inline double norm(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value * value;
  return std::sqrt(sum);
}

inline void for_threads_1_to_3(const std::function<void()>& body) {
  const int before = omp_get_max_threads();
  for (const int threads : {1, 2, 3}) {
    CAPTURE(threads);
    omp_set_num_threads(threads);
    body();
  }
  omp_set_num_threads(before);
}

}  // namespace dcs3gd::optim::test
