#pragma once

#include <cstddef>

#include "nn/kernels/precision.h"

/// Element-wise kernels over activations in any format, on the caller's OpenMP team. In-place use (dst = a source) is
/// allowed. Zeros stay zeros, so that the padding of blocked formats, which oneDNN relies on, stays zero. NaN passes
/// through, so that it shows in the loss. In bf16 sums are rounded to nearest, ties to even.
namespace dcs3gd::nn {

/// dst = max(src, 0)
void relu_forward(Precision precision, const void* src, void* dst, std::size_t count);
/// diff_src = 0 where dst ≤ 0, else diff_dst
void relu_backward(Precision precision, const void* diff_dst, const void* dst, void* diff_src, std::size_t count);
/// dst = src0 + src1
void add_forward(Precision precision, const void* src0, const void* src1, void* dst, std::size_t count);
/// dst = max(src0 + src1, 0)
void add_relu_forward(Precision precision, const void* src0, const void* src1, void* dst, std::size_t count);

/// dst = src in another precision; of the same it is a copy
void convert(Precision from, const void* src, Precision to, void* dst, std::size_t count);

}  // namespace dcs3gd::nn
