#include "nn/elementwise.h"

#include "core/parallel_blocks.h"
#include "core/simd.h"

namespace dcs3gd::nn {
namespace {

DCS3GD_SIMD_CLONES
void relu_block(const float* src, float* dst, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) dst[i] = src[i] < 0 ? 0 : src[i];
}

DCS3GD_SIMD_CLONES
void relu_backward_block(const float* diff_dst, const float* dst, float* diff_src, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) diff_src[i] = dst[i] <= 0 ? 0 : diff_dst[i];
}

DCS3GD_SIMD_CLONES
void add_block(const float* src0, const float* src1, float* dst, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) dst[i] = src0[i] + src1[i];
}

DCS3GD_SIMD_CLONES
void add_relu_block(const float* src0, const float* src1, float* dst, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    const float sum = src0[i] + src1[i];
    dst[i] = sum < 0 ? 0 : sum;
  }
}

}  // namespace

void relu_forward(const float* src, float* dst, std::size_t count) {
  for_each_block(count,
                 [&](std::size_t, std::size_t first, std::size_t n) { relu_block(src + first, dst + first, n); });
}

void relu_backward(const float* diff_dst, const float* dst, float* diff_src, std::size_t count) {
  for_each_block(count, [&](std::size_t, std::size_t first, std::size_t n) {
    relu_backward_block(diff_dst + first, dst + first, diff_src + first, n);
  });
}

void add_forward(const float* src0, const float* src1, float* dst, std::size_t count) {
  for_each_block(count, [&](std::size_t, std::size_t first, std::size_t n) {
    add_block(src0 + first, src1 + first, dst + first, n);
  });
}

void add_relu_forward(const float* src0, const float* src1, float* dst, std::size_t count) {
  for_each_block(count, [&](std::size_t, std::size_t first, std::size_t n) {
    add_relu_block(src0 + first, src1 + first, dst + first, n);
  });
}

}  // namespace dcs3gd::nn
