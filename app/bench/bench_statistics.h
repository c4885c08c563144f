#pragma once

#include <string>
#include <vector>

namespace dcs3gd::app {

/// Order statistics of repeated timings.
struct TimingSummary {
  std::size_t n = 0;
  double min = 0;
  double median = 0;
  double p99 = 0;
};

/// `samples` is not empty.
TimingSummary summarize(std::vector<double> samples);

/// "n 10  min 1.23 ms  median 1.30 ms  p99 1.52 ms"
std::string format_ms(const TimingSummary& summary);

}  // namespace dcs3gd::app
