#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/parameter_arena.h"
#include "nn/convolution/convolution_choice.h"
#include "nn/graph.h"
#include "nn/kernels/precision.h"

namespace dcs3gd::nn {

/// Settings of a planned network. All of them affect results.
struct NetworkOptions {
  int batch = 128;                        ///< images of one pass
  float label_smoothing = 0;              ///< ε of the training loss; evaluation uses the plain cross-entropy
  std::uint64_t seed = 1;                 ///< of the dropout masks
  Precision precision = Precision::fp32;  ///< bf16 needs a processor that has it: supports()
  ConvolutionChoices convolutions = {};   ///< direct where nothing is chosen: measure_convolutions()
};

/// Images in plain NCHW order, normalised, and their labels 0 … classes − 1. Borrowed for the length of a call.
/// Mixed images (mixup) have two labels each: the training loss is then label_share times the one of `labels` plus
/// 1 − label_share times the one of `other_labels`.
struct BatchView {
  const float* images = nullptr;
  const std::int32_t* labels = nullptr;
  int count = 0;  ///< valid images ≤ NetworkOptions::batch; `images` has room for a whole batch
  const std::int32_t* other_labels = nullptr;  ///< null: the images are not mixed
  float label_share = 1;                       ///< 0 … 1
};

/// Which pass this is: names the random streams of dropout.
struct PassIdentity {
  std::int64_t step = 0;
  int worker = 0;
  int part = 0;  ///< of a batch that is computed in several passes: its images are counted on from part to part
};

struct BatchResult {
  double loss_sum = 0;  ///< over the images, without the weight decay's term
  /// Of mixed images counts the label with the larger share, as torchvision's references do.
  std::int64_t correct_top1 = 0;
  std::int64_t correct_top5 = 0;
  std::int64_t images = 0;

  BatchResult& operator+=(const BatchResult& other);
};

/// Called from backward as soon as a slice of the gradient is final; slices come roughly from the last layer to the
/// first, each exactly once.
using GradientReady = std::function<void(const ParameterSlice&)>;

/// One line of the table of layers.
struct LayerInfo {
  std::string name;
  std::string kind;
  ImageShape dst;
  std::size_t parameters = 0;
};

/// Time spent in one kind of layer since the last reset.
struct KindTime {
  std::string kind;
  double seconds = 0;
};

/// How a training pass computes its convolutions: by direction of each layer.
struct ConvolutionCount {
  int all = 0;
  int winograd = 0;
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

  const std::shared_ptr<const ParameterLayout>& parameter_layout() const;
  const std::shared_ptr<const ParameterLayout>& statistics_layout() const;
  int batch() const;
  /// Images part · batch() and following of a batch that is larger than one pass.
  BatchView part_of(const BatchView& whole, int part) const;
  int classes() const;

  /// Writes plain weights into the compute weights: all of them, or those of the `slice`-th slice of the layout.
  void set_weights(const ParameterArena& weights);
  void set_weights(std::size_t slice, std::span<const float> values);
  /// The statistics that evaluate() uses.
  void set_running_statistics(const ParameterArena& statistics);

  /// Forward in training mode, loss, backward. `gradient` (a twin of the parameters) is overwritten with the gradient
  /// of the mean loss over the batch, which must be full.
  BatchResult compute_gradient(const BatchView& batch, const PassIdentity& identity, ParameterArena& gradient,
                               const GradientReady& on_gradient_ready = {});
  /// Batch statistics of the last compute_gradient: mean and unbiased variance, the target of the running statistics.
  const ParameterArena& batch_statistics() const;

  /// Forward with running statistics; counts the first `batch.count` images.
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
