#pragma once

#include <memory>

#include "nn/graph/graph.h"
#include "nn/kernels/precision.h"

namespace dcs3gd::nn {

/// Measures the least time a training step of a network can take on this machine with oneDNN: its convolutions and
/// linear layers alone (forward, data and weight gradients), each with the fastest algorithm that oneDNN has for it
/// (direct or Winograd, timed here) and in the formats oneDNN chooses. For benchmarks.
class ConvolutionBound {
 public:
  ConvolutionBound(const Graph& graph, int batch, Precision precision);
  ~ConvolutionBound();

  /// Runs all of them once and returns the seconds.
  double run();

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace dcs3gd::nn
