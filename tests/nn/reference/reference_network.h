#pragma once

#include <span>
#include <vector>

#include "nn/network.h"
#include "tests/nn/reference/reference_layers.h"

namespace dcs3gd::nn::reference {

/// What a pass yields. The flat arrays are laid out as the engine's arenas: graph.parameter_layout() and
/// statistics_layout().
struct PassResult {
  BatchResult counts;
  Tensor logits;
  std::vector<double> gradient;          ///< training only
  std::vector<double> batch_statistics;  ///< training only: mean and unbiased variance
};

/// Runs any Graph by the reference layers: the same passes as Network, so that the two can be compared number by
/// number. It keeps every activation and plans nothing. Weights and running statistics are doubles, to be set freely
/// (finite differences change them by less than a float can show).
class ReferenceNetwork {
 public:
  /// `options.batch` is not needed: a pass takes the images it is given.
  ReferenceNetwork(const Graph& graph, const NetworkOptions& options);

  std::span<double> weights() { return weights_; }
  std::span<double> running_statistics() { return running_statistics_; }

  /// Forward in training mode, loss, backward over `batch.count` images.
  PassResult compute_gradient(const BatchView& batch, const PassIdentity& identity) const;
  /// Forward with running statistics and plain cross-entropy.
  PassResult evaluate(const BatchView& batch) const;

 private:
  struct ForwardPass;

  ForwardPass run_forward(const BatchView& batch, const PassIdentity& identity, bool training) const;
  LayerPass layer_pass(const Node& node, ForwardPass& pass) const;
  /// Returns the gradient of each source of the node.
  std::vector<Tensor> run_backward(const Node& node, ForwardPass& forward, const Tensor& diff_dst,
                                   std::span<double> gradient) const;
  std::vector<double> batch_statistics(const ForwardPass& forward) const;

  const Graph graph_;
  const NetworkOptions options_;
  const std::shared_ptr<const ParameterLayout> parameters_;
  const std::shared_ptr<const ParameterLayout> statistics_;
  std::vector<double> weights_;
  std::vector<double> running_statistics_;
};

}  // namespace dcs3gd::nn::reference
