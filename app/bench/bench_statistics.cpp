#include "app/bench/bench_statistics.h"

#include <algorithm>
#include <cmath>

#include "core/format.h"

namespace dcs3gd::app {
namespace {

/// The smallest sample that `share` of all samples do not exceed (nearest rank).
double quantile(const std::vector<double>& sorted, double share) {
  const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(sorted.size())));
  return sorted[std::max<std::size_t>(rank, 1) - 1];
}

}  // namespace

TimingSummary summarize(std::vector<double> samples) {
  std::ranges::sort(samples);
  return {
      .n = samples.size(), .min = samples.front(), .median = quantile(samples, 0.5), .p99 = quantile(samples, 0.99)};
}

std::string format_ms(const TimingSummary& summary) {
  return format("n {}  min {:.3f} ms  median {:.3f} ms  p99 {:.3f} ms", summary.n, summary.min, summary.median,
                summary.p99);
}

}  // namespace dcs3gd::app
