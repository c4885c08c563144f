#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "core/random_stream.h"
#include "nn/graph/graph.h"
#include "nn/graph/layer_options.h"

/// Every layer as the textbook writes it: plain loops over NCHW in double precision, in no hurry. The engine is tested
/// against these, and these against finite differences. Backward functions return the gradient of their source and
/// overwrite the gradients of the parameters.
namespace dcs3gd::nn::reference {

/// The activations of a batch: images × channels × height × width.
struct Tensor {
  Tensor() = default;
  Tensor(int image_count, const ImageShape& image_shape);

  double& at(int n, int c, int h, int w) { return values[index(n, c, h, w)]; }
  double at(int n, int c, int h, int w) const { return values[index(n, c, h, w)]; }
  std::size_t index(int n, int c, int h, int w) const;
  /// The values of image `n` in CHW order.
  std::span<double> image(int n);
  std::span<const double> image(int n) const;

  int images = 0;
  ImageShape shape;
  std::vector<double> values;
};

/// Per channel; the variance divides by the number of values (biased).
struct Statistics {
  std::vector<double> mean;
  std::vector<double> variance;
};

/// What a layer sees of a pass.
struct LayerPass {
  const Tensor& src(std::size_t which = 0) const { return *sources[which]; }

  bool training = false;
  std::vector<const Tensor*> sources;
  const Tensor* dst = nullptr;                        ///< in backward: what forward returned
  ImageShape dst_shape;                               ///< as the graph has it
  std::array<std::span<const double>, 2> parameters;  ///< weights and bias, or γ and β; empty where there is none
  std::array<std::span<double>, 2> diff_parameters;   ///< in backward
  Statistics* statistics = nullptr;                   ///< of a batch norm: of the batch, or in evaluation running ones
  RandomStream random;                                ///< of a dropout
  int first_image = 0;                                ///< of this pass, within the worker's batch
};

// For each kind of layer forward, which returns dst, and backward, which returns the gradient of each of its sources.

/// Weights OIHW.
Tensor forward(const Convolution& options, const LayerPass& pass);
std::vector<Tensor> backward(const Convolution& options, const LayerPass& pass, const Tensor& diff_dst);

/// Forward in training sets the statistics of the batch, which are functions of src in backward.
Tensor forward(const BatchNorm& options, const LayerPass& pass);
std::vector<Tensor> backward(const BatchNorm& options, const LayerPass& pass, const Tensor& diff_dst);

Tensor forward(const Relu& options, const LayerPass& pass);
std::vector<Tensor> backward(const Relu& options, const LayerPass& pass, const Tensor& diff_dst);

Tensor forward(const Pooling& options, const LayerPass& pass);
std::vector<Tensor> backward(const Pooling& options, const LayerPass& pass, const Tensor& diff_dst);

Tensor forward(const GlobalAveragePooling& options, const LayerPass& pass);
std::vector<Tensor> backward(const GlobalAveragePooling& options, const LayerPass& pass, const Tensor& diff_dst);

Tensor forward(const AdaptiveAveragePooling& options, const LayerPass& pass);
std::vector<Tensor> backward(const AdaptiveAveragePooling& options, const LayerPass& pass, const Tensor& diff_dst);

/// Weights OI over the source flattened in CHW order.
Tensor forward(const Linear& options, const LayerPass& pass);
std::vector<Tensor> backward(const Linear& options, const LayerPass& pass, const Tensor& diff_dst);

/// Element e of image n (in CHW order; the first one is `first_image`) is dropped if number e mod 4 of the block
/// n·⌈elements/4⌉ + e/4 of the layer's stream lies in the lowest `probability` of its range. Forward and backward are
/// the same map.
Tensor forward(const Dropout& options, const LayerPass& pass);
std::vector<Tensor> backward(const Dropout& options, const LayerPass& pass, const Tensor& diff_dst);

Tensor forward(const Addition& options, const LayerPass& pass);
std::vector<Tensor> backward(const Addition& options, const LayerPass& pass, const Tensor& diff_dst);

struct Loss {
  double sum = 0;  ///< over the images
  std::int64_t correct_top1 = 0;
  std::int64_t correct_top5 = 0;
  Tensor diff_logits;  ///< of the mean over the images
};
/// Softmax cross-entropy with the target (1 − ε)·onehot + ε/K. An answer is among the first k if fewer than k other
/// classes are at least as likely; with NaN anywhere among the logits of an image it is wrong.
Loss cross_entropy(const Tensor& logits, std::span<const std::int32_t> labels, double label_smoothing);
/// share · loss + (1 − share) · other, for the same logits; what counts as correct is that with the larger share.
Loss mix(double share, const Loss& loss, const Loss& other);

}  // namespace dcs3gd::nn::reference
