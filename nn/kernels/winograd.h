#pragma once

#include <cstddef>

#include "nn/kernels/precision.h"

namespace dcs3gd::nn {

/// A convolution of 3×3 and stride 1 by Winograd's algorithm F(4×4, 3×3): a quarter of the multiplications, larger
/// rounding errors. Activations are fp32 or bf16, in blocks of `lanes` channels, 8 or 16, padded with zeros; weights
/// and their gradients are fp32 and plain, OIHW, and computed is in fp32. Runs on an OpenMP team of `threads`. The same
/// arguments give the same bits, but for another number of threads the weights' gradient may be added up in another
/// order.
class Winograd {
 public:
  struct Activation {
    std::size_t channels = 0;
    std::size_t height = 0;
    std::size_t width = 0;
  };
  struct Shape {
    Precision precision = Precision::fp32;  ///< of the activations
    std::size_t lanes = 0;
    std::size_t images = 0;
    Activation src, dst;
    std::size_t padding = 0;  ///< ≤ 2
  };

  Winograd(const Shape& shape, int threads);

  /// Elements of `scratch`.
  std::size_t forward_scratch() const;
  std::size_t backward_data_scratch() const;
  std::size_t backward_weights_scratch() const;

  /// `bias`: null for none
  void forward(const void* src, const float* weights, const float* bias, void* dst, float* scratch) const;
  void backward_data(const void* diff_dst, const float* weights, void* diff_src, float* scratch) const;
  /// `diff_bias`: null for none
  void backward_weights(const void* src, const void* diff_dst, float* diff_weights, float* diff_bias,
                        float* scratch) const;

 private:
  Shape shape_;
  std::size_t threads_;
};

}  // namespace dcs3gd::nn
