#pragma once

#include <string>

#include "nn/kernels/precision.h"

namespace dcs3gd::app {

struct NnBenchOptions {
  std::string model = "resnet50";
  int batch = 32;
  nn::Precision precision = nn::Precision::fp32;
  bool direct = false;  ///< as model.convolution: direct
  int threads = 0;      ///< 0: all that OpenMP offers
  int image_size = 0;   ///< 0: the model's own, 224, 32 or 28 pixels
  int steps = 10;       ///< measured, after two that warm up
  bool json = false;
};

/// `dcs3gd-bench nn`: whole training steps (forward, loss, backward, optimizer) on random images against the time that
/// the convolutions and linear layers alone need, taken in turn. Throws Error{input} for options that cannot be.
void bench_nn(const NnBenchOptions& options);

}  // namespace dcs3gd::app
