#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/random_stream.h"
#include "nn/graph/graph.h"

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

/// `weights` OIHW; `bias` empty for none.
Tensor convolution_forward(const Convolution& options, const ImageShape& dst_shape, const Tensor& src,
                           std::span<const double> weights, std::span<const double> bias);
Tensor convolution_backward(const Convolution& options, const Tensor& src, const Tensor& diff_dst,
                            std::span<const double> weights, std::span<double> diff_weights,
                            std::span<double> diff_bias);

/// Per channel; the variance divides by the number of values (biased).
struct Statistics {
  std::vector<double> mean;
  std::vector<double> variance;
};
Statistics batch_norm_statistics(const Tensor& src);
/// `statistics` of the batch in training, running ones in evaluation.
Tensor batch_norm_forward(const BatchNorm& options, const Tensor& src, const Statistics& statistics,
                          std::span<const double> gamma, std::span<const double> beta);
/// In training: `statistics` are functions of `src`. `dst` is what forward returned.
Tensor batch_norm_backward(const BatchNorm& options, const Tensor& src, const Statistics& statistics, const Tensor& dst,
                           const Tensor& diff_dst, std::span<const double> gamma, std::span<double> diff_gamma,
                           std::span<double> diff_beta);

Tensor relu_forward(const Tensor& src);
Tensor relu_backward(const Tensor& dst, const Tensor& diff_dst);

Tensor pooling_forward(const Pooling& options, const ImageShape& dst_shape, const Tensor& src);
Tensor pooling_backward(const Pooling& options, const Tensor& src, const Tensor& diff_dst);

Tensor global_average_pooling_forward(const Tensor& src);
Tensor global_average_pooling_backward(const ImageShape& src_shape, const Tensor& diff_dst);

Tensor adaptive_average_pooling_forward(const AdaptiveAveragePooling& options, const Tensor& src);
Tensor adaptive_average_pooling_backward(const AdaptiveAveragePooling& options, const ImageShape& src_shape,
                                         const Tensor& diff_dst);

/// `weights` OI over the source flattened in CHW order; `bias` empty for none.
Tensor linear_forward(const Linear& options, const Tensor& src, std::span<const double> weights,
                      std::span<const double> bias);
Tensor linear_backward(const Tensor& src, const Tensor& diff_dst, std::span<const double> weights,
                       std::span<double> diff_weights, std::span<double> diff_bias);

/// Element e of image n (in CHW order; the first one is `first_image`) is dropped if number e mod 4 of the block
/// n·⌈elements/4⌉ + e/4 of the layer's stream lies in the lowest `probability` of its range. Forward and backward are
/// the same map.
Tensor dropout(const Dropout& options, const RandomStream& random, int first_image, const Tensor& src);

Tensor addition_forward(const Addition& options, const Tensor& src0, const Tensor& src1);
/// The gradient of each of the two sources.
Tensor addition_backward(const Addition& options, const Tensor& dst, const Tensor& diff_dst);

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
