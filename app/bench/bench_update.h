#pragma once

#include <cstddef>

namespace dcs3gd::app {

struct UpdateBenchOptions {
  std::size_t floats = 25557032;  ///< of the model: ResNet-50
  int repetitions = 20;
  bool json = false;
};

/// `dcs3gd-bench update`: the update rule of DC-S3GD (norms, λ, correction, momentum, mean model) on this machine's
/// OpenMP team, against the time that the bytes it must touch take at the bandwidth of the triad a = b + s·c, measured
/// in turn.
void bench_update(const UpdateBenchOptions& options);

}  // namespace dcs3gd::app
