#pragma once

#include <memory>

#include "nn/graph/graph.h"
#include "nn/kernels/precision.h"

namespace dcs3gd::nn {

/// Measures the least time a pass of a network over a batch can take on this machine with oneDNN: its convolutions and
/// linear layers alone (forward, in training data and weight gradients too), each with the fastest algorithm that
/// oneDNN has for it (direct or Winograd, timed here) and in the formats oneDNN chooses; in evaluation range by range.
/// For benchmarks.
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
