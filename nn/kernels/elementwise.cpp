#include "nn/kernels/elementwise.h"

#include <cstring>
#include <type_traits>

#include "core/bf16.h"
#include "core/parallel_blocks.h"
#include "core/simd.h"

namespace dcs3gd::nn {
namespace {

template <typename Element>
Element from_float(float value) {
  if constexpr (sizeof(Element) == sizeof(float)) {
    return value;
  } else {
    return to_bf16(value);
  }
}

// One element of each kernel. NaN is never below 0.
template <typename Element>
Element relu(Element src) {
  return to_float(src) < 0 ? Element{} : src;
}
template <typename Element>
Element diff_relu(Element diff_dst, Element dst) {
  return to_float(dst) <= 0 ? Element{} : diff_dst;
}
template <typename Element>
Element sum(Element src0, Element src1) {
  return from_float<Element>(to_float(src0) + to_float(src1));
}

// The compiler clones functions, not templates: the loops stand here once for each element type and kernel.

DCS3GD_SIMD_CLONES
void relu_block(const float* src, float* dst, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) dst[i] = relu(src[i]);
}
DCS3GD_SIMD_CLONES
void relu_block(const Bf16* src, Bf16* dst, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) dst[i] = relu(src[i]);
}
DCS3GD_SIMD_CLONES
void relu_backward_block(const float* diff_dst, const float* dst, float* diff_src, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) diff_src[i] = diff_relu(diff_dst[i], dst[i]);
}
DCS3GD_SIMD_CLONES
void relu_backward_block(const Bf16* diff_dst, const Bf16* dst, Bf16* diff_src, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) diff_src[i] = diff_relu(diff_dst[i], dst[i]);
}
DCS3GD_SIMD_CLONES
void add_block(const float* src0, const float* src1, float* dst, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) dst[i] = sum(src0[i], src1[i]);
}
DCS3GD_SIMD_CLONES
void add_block(const Bf16* src0, const Bf16* src1, Bf16* dst, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) dst[i] = sum(src0[i], src1[i]);
}
DCS3GD_SIMD_CLONES
void add_relu_block(const float* src0, const float* src1, float* dst, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) dst[i] = relu(sum(src0[i], src1[i]));
}
DCS3GD_SIMD_CLONES
void add_relu_block(const Bf16* src0, const Bf16* src1, Bf16* dst, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) dst[i] = relu(sum(src0[i], src1[i]));
}

DCS3GD_SIMD_CLONES
void convert_block(const float* src, Bf16* dst, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) dst[i] = to_bf16(src[i]);
}
DCS3GD_SIMD_CLONES
void convert_block(const Bf16* src, float* dst, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) dst[i] = to_float(src[i]);
}

/// Calls body(src0, src1, dst, count) on blocks of the arrays, as elements of the precision.
template <typename Body>
void for_each_block_of(Precision precision, const void* src0, const void* src1, void* dst, std::size_t count,
                       Body body) {
  const auto run = [&](auto* to) {
    using Element = std::remove_pointer_t<decltype(to)>;
    const auto* from0 = static_cast<const Element*>(src0);
    const auto* from1 = static_cast<const Element*>(src1);
    for_each_block(count, [&](std::size_t first, std::size_t n) { body(from0 + first, from1 + first, to + first, n); });
  };
  if (precision == Precision::bf16) {
    run(static_cast<Bf16*>(dst));
  } else {
    run(static_cast<float*>(dst));
  }
}

}  // namespace

void relu_forward(Precision precision, const void* src, void* dst, std::size_t count) {
  for_each_block_of(precision, src, src, dst, count,
                    [](auto* from, auto*, auto* to, std::size_t n) { relu_block(from, to, n); });
}

void relu_backward(Precision precision, const void* diff_dst, const void* dst, void* diff_src, std::size_t count) {
  for_each_block_of(precision, diff_dst, dst, diff_src, count, [](auto* from, auto* forward, auto* to, std::size_t n) {
    relu_backward_block(from, forward, to, n);
  });
}

void add_forward(Precision precision, const void* src0, const void* src1, void* dst, std::size_t count) {
  for_each_block_of(precision, src0, src1, dst, count,
                    [](auto* from0, auto* from1, auto* to, std::size_t n) { add_block(from0, from1, to, n); });
}

void add_relu_forward(Precision precision, const void* src0, const void* src1, void* dst, std::size_t count) {
  for_each_block_of(precision, src0, src1, dst, count,
                    [](auto* from0, auto* from1, auto* to, std::size_t n) { add_relu_block(from0, from1, to, n); });
}

void convert(Precision from, const void* src, Precision to, void* dst, std::size_t count) {
  if (from == to) {
    const std::size_t element = element_bytes(from);
    for_each_block(count, [&](std::size_t first, std::size_t n) {
      std::memcpy(static_cast<std::byte*>(dst) + first * element, static_cast<const std::byte*>(src) + first * element,
                  n * element);
    });
  } else if (to == Precision::bf16) {
    for_each_block(count, [&](std::size_t first, std::size_t n) {
      convert_block(static_cast<const float*>(src) + first, static_cast<Bf16*>(dst) + first, n);
    });
  } else {
    for_each_block(count, [&](std::size_t first, std::size_t n) {
      convert_block(static_cast<const Bf16*>(src) + first, static_cast<float*>(dst) + first, n);
    });
  }
}

}  // namespace dcs3gd::nn
