#pragma once

#include <string>

namespace dcs3gd::app {

struct StepBenchOptions {
  std::string model = "resnet50";
  int batch = 16;      ///< per worker
  int image_size = 0;  ///< pixels; 0: the model's own
  std::string algorithm = "dc_s3gd";
  std::string wire = "fp32";
  int threads = 0;  ///< per rank; 0: as in training with run.threads auto
  int rounds = 4;   ///< of some steps with communication and as many without
  bool json = false;
};

/// `dcs3gd-bench step`, under mpirun: training steps with and without communication in turn, on all ranks at the same
/// time, so that what communication costs is measured against computing under the same load. Rank 0 prints.
void bench_step(const StepBenchOptions& options);

}  // namespace dcs3gd::app
