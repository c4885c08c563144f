#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/parameter_arena.h"
#include "nn/graph/graph.h"
#include "nn/plan/pass.h"

namespace dcs3gd::nn {

/// One line of the table of layers.
struct LayerInfo {
  std::string name;
  std::string kind;
  ImageShape dst;
  std::size_t parameters = 0;
  std::size_t frozen = 0;  ///< of them
};

/// A network planned for one batch size on this CPU: formats, primitives and memory are chosen in the constructor; a
/// pass allocates nothing and decides nothing. It holds the compute weights (in oneDNN's formats) and activations;
/// master weights, gradients and running statistics are the caller's flat arrays. Not thread-safe: one pass at a time,
/// always from the same thread, on that thread's OpenMP team as it was when the network was made. Results depend on the
/// size of the team (sums are split over it), with the same size they are the same bit for bit.
class Network {
 public:
  /// Throws Error{input} for settings that cannot work, Error{failure} when memory is short or oneDNN fails.
  Network(const Graph& graph, const NetworkOptions& options);
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  /// The parameters that are trained, and the statistics that move; the frozen ones of both are the third layout.
  const std::shared_ptr<const ParameterLayout>& parameter_layout() const;
  const std::shared_ptr<const ParameterLayout>& statistics_layout() const;
  const std::shared_ptr<const ParameterLayout>& frozen_layout() const;
  int batch() const;
  /// Images part · batch() and following of a batch that is larger than one pass.
  BatchView part_of(const BatchView& whole, int part) const;
  int classes() const;

  /// Writes plain weights into the compute weights: all of them, or those of the `slice`-th slice of the layout.
  void set_weights(const ParameterArena& weights);
  void set_weights(std::size_t slice, std::span<const float> values);
  /// What stays as it is, before anything is computed.
  void set_frozen(const ParameterArena& frozen);
  /// The statistics that evaluate() uses.
  void set_running_statistics(const ParameterArena& statistics);

  /// Runs forward in training mode, loss and backward. `gradient` (a twin of the parameters) is overwritten with the
  /// gradient of the mean loss over the batch, which must be full.
  BatchResult compute_gradient(const BatchView& batch, const PassIdentity& identity, ParameterArena& gradient,
                               const PassHooks& hooks = {});
  /// Batch statistics of the last compute_gradient: mean and unbiased variance, the target of the running statistics.
  const ParameterArena& batch_statistics() const;

  /// Runs forward with running statistics; counts the first `batch.count` images.
  BatchResult evaluate(const BatchView& batch);
  /// The logits of the last pass, batch × classes.
  std::span<const float> logits() const;

  std::vector<LayerInfo> layers() const;
  ConvolutionCount convolutions() const;
  /// Bytes of activations, compute weights and scratch memory, all allocated by now.
  std::size_t memory_bytes() const;

  std::vector<KindTime> times() const;
  void reset_times();

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace dcs3gd::nn
