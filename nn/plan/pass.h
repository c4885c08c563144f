#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "core/parameter_arena.h"
#include "nn/kernels/precision.h"
#include "nn/plan/convolution_choices.h"

/// What goes into a pass of a network and what comes out of it.
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

  BatchResult& operator+=(const BatchResult& other) {
    loss_sum += other.loss_sum;
    correct_top1 += other.correct_top1;
    correct_top5 += other.correct_top5;
    images += other.images;
    return *this;
  }
};

/// What a training pass tells its caller of single slices while it runs, on the caller's thread. Either may be empty.
struct PassHooks {
  /// From forward, before the first layer that reads this slice's compute weights; slices come from the first layer to
  /// the last, each exactly once. The caller may still write them (Network::set_weights).
  std::function<void(const ParameterSlice&)> on_weights_needed = {};
  /// From backward, as soon as this slice of the gradient is final; slices come roughly from the last layer to the
  /// first, each exactly once.
  std::function<void(const ParameterSlice&)> on_gradient_ready = {};
};

/// Time spent in one kind of layer since the last reset.
struct KindTime {
  std::string kind;
  double seconds = 0;
};

/// How a training pass computes its convolutions: counts forward, backward data and backward weights separately.
struct ConvolutionCount {
  int all = 0;
  int winograd = 0;
};

}  // namespace dcs3gd::nn
