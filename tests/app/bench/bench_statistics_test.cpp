#include "app/bench/bench_statistics.h"

#include <numeric>
#include <string>
#include <vector>

#include <doctest/doctest.h>

using namespace dcs3gd::app;

TEST_CASE("a summary orders the samples and takes nearest ranks") {
  std::vector<double> hundred(100);
  std::iota(hundred.rbegin(), hundred.rend(), 1.0);  // 100, 99, … 1
  const TimingSummary summary = summarize(hundred);
  CHECK(summary.n == 100);
  CHECK(summary.min == 1);
  CHECK(summary.median == 50);
  CHECK(summary.p99 == 99);
}

TEST_CASE("a summary of few samples names samples that were taken") {
  const TimingSummary one = summarize({3});
  CHECK(one.n == 1);
  CHECK(one.min == 3);
  CHECK(one.median == 3);
  CHECK(one.p99 == 3);

  const TimingSummary three = summarize({9, 1, 4});
  CHECK(three.min == 1);
  CHECK(three.median == 4);
  CHECK(three.p99 == 9);
}

TEST_CASE("a summary as text") {
  CHECK(format_ms({.n = 10, .min = 1.25, .median = 1.5, .p99 = 20}) ==
        "n 10  min 1.250 ms  median 1.500 ms  p99 20.000 ms");
}
