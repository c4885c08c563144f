#pragma once

#include <cstddef>

#include "nn/kernels/batch_norm_coefficients.h"
#include "nn/kernels/channel_layout.h"
#include "nn/kernels/precision.h"

/// The passes over memory of batch norm (Ioffe & Szegedy, arXiv 1502.03167, algorithm 1 and section 3) with what
/// residual networks do next to it: a sum, a ReLU, and in backward the sum of two gradients. As few as there can be:
/// the statistics read src once, everything else happens while src is read for the normalisation or the gradient.
///
/// All arrays of a call have one layout and precision; computed is in fp32. They run on the caller's OpenMP team; sums
/// are ordered by image and pixel, so results do not depend on the number of threads. Padding channels stay zero.
namespace dcs3gd::nn::batch_norm {

struct Images {
  Precision precision = Precision::fp32;
  ChannelLayout layout;
  std::size_t count = 0;

  std::size_t values_per_channel() const { return count * layout.pixels; }
};

/// Arrays of values per channel that kernels read have this many elements: whole vectors may be read at the end.
std::size_t channel_array_size(const ChannelLayout& layout);
/// Floats of an image in the `sums` between a pass over images and the merging of all of them.
std::size_t sums_per_image(const ChannelLayout& layout);

/// Computes what the statistics need of each image, in one pass over src.
void statistics_of_images(const Images& images, const void* src, float* sums);
/// Computes mean and biased variance of each channel.
void merge_statistics(const Images& images, const float* sums, float* mean, float* variance);

/// What follows the normalisation: dst = relu(normalised + addend).
struct PostOps {
  const void* addend = nullptr;  ///< null: none
  bool relu = false;
};

/// Normalises src into dst, which may be src or the addend.
void normalise(const Images& images, const void* src, const Normalisation& normalisation, const PostOps& post_ops,
               void* dst);

/// The gradient of dst: the sum of two arrays, or one.
struct DiffDst {
  const void* part = nullptr;
  const void* other_part = nullptr;
};

/// Sums over each image g, the gradient of the normalised value (diff_dst, or 0 where the ReLU was), and g (src −
/// mean). g is written to `diff_normalised` too if that is not null; it may be the first part of diff_dst.
void reduce_gradient_of_images(const Images& images, const void* src, const Normalisation& normalisation,
                               const PostOps& post_ops, const DiffDst& diff_dst, void* diff_normalised, float* sums);
/// Computes sum[c] = Σ g and sum_src[c] = Σ g (src − mean).
void merge_gradient(const Images& images, const float* sums, float* sum, float* sum_src);

/// Computes the gradient of src. `diff_dst`: g if reduce_gradient_of_images() has written it (then `relu` is false),
/// else the gradient of dst, which the ReLU masks again. diff_src may be diff_dst.
void backward_data(const Images& images, const void* src, const Normalisation& normalisation, bool relu,
                   const void* diff_dst, const SourceGradient& coefficients, void* diff_src);

}  // namespace dcs3gd::nn::batch_norm
