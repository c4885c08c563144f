#pragma once

#include <cstddef>

/// Element-wise kernels over activations in any format, on the caller's OpenMP team. In-place use (dst = a source) is
/// allowed. Zeros stay zeros, so that the padding of blocked formats, which oneDNN relies on, stays zero. NaN passes
/// through, so that it shows in the loss.
namespace dcs3gd::nn {

/// dst = max(src, 0)
void relu_forward(const float* src, float* dst, std::size_t count);
/// diff_src = 0 where dst ≤ 0, else diff_dst
void relu_backward(const float* diff_dst, const float* dst, float* diff_src, std::size_t count);
/// dst = src0 + src1
void add_forward(const float* src0, const float* src1, float* dst, std::size_t count);
/// dst = max(src0 + src1, 0)
void add_relu_forward(const float* src0, const float* src1, float* dst, std::size_t count);

}  // namespace dcs3gd::nn
