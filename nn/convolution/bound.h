#pragma once

#include <memory>

#include "nn/graph/graph.h"
#include "nn/kernels/precision.h"

namespace dcs3gd::nn {

/// Measures the least time a pass of a network over a batch can take on this machine: its convolutions and linear
/// layers alone (forward, in training data and weight gradients too), each with the fastest algorithm (oneDNN's direct
/// or our Winograd, timed here) and in the formats that suits; in evaluation range by range. For benchmarks.
class ConvolutionBound {
 public:
  ConvolutionBound(const Graph& graph, int batch, Precision precision, bool training);
  ~ConvolutionBound();

  /// Runs all of them once and returns the seconds.
  double run();

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace dcs3gd::nn
