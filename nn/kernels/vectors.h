#pragma once

#include <cstddef>
#include <cstdint>

#include "core/bf16.h"

/// Rows of neighbouring channels as vectors of the compiler's: GCC does not find out by itself that 16 sums fit one
/// register. Clones for processors without such wide registers use several for each. What is inlined everywhere never
/// passes a vector through a call, so that its calling convention does not matter (-Wno-psabi). For the sources of
/// inner loops alone.
#define DCS3GD_INLINE __attribute__((always_inline)) inline

namespace dcs3gd::nn {

// GCC does not take a vector's size from a template's parameter, clang no alignment that stands behind an "=".
template <std::size_t kLanes>
struct Vector;
template <>
struct Vector<8> {
  using Row = float __attribute__((vector_size(8 * sizeof(float))));
  using Bits = std::uint32_t __attribute__((vector_size(8 * sizeof(std::uint32_t))));
  using Halves = std::uint16_t __attribute__((vector_size(8 * sizeof(std::uint16_t))));
  using UnalignedRow [[gnu::aligned(4), gnu::may_alias]] = Row;
  using UnalignedBits [[gnu::aligned(2), gnu::may_alias]] = Bits;
  using UnalignedHalves [[gnu::aligned(2), gnu::may_alias]] = Halves;
};
template <>
struct Vector<16> {
  using Row = float __attribute__((vector_size(16 * sizeof(float))));
  using Bits = std::uint32_t __attribute__((vector_size(16 * sizeof(std::uint32_t))));
  using Halves = std::uint16_t __attribute__((vector_size(16 * sizeof(std::uint16_t))));
  using UnalignedRow [[gnu::aligned(4), gnu::may_alias]] = Row;
  using UnalignedBits [[gnu::aligned(2), gnu::may_alias]] = Bits;
  using UnalignedHalves [[gnu::aligned(2), gnu::may_alias]] = Halves;
};

template <std::size_t kLanes>
DCS3GD_INLINE typename Vector<kLanes>::Row load(const float* from) {
  return *reinterpret_cast<const typename Vector<kLanes>::UnalignedRow*>(from);
}
template <std::size_t kLanes>
DCS3GD_INLINE typename Vector<kLanes>::Row load(const Bf16* from) {
  using V = Vector<kLanes>;
  const typename V::Halves upper = *reinterpret_cast<const typename V::UnalignedHalves*>(from);
  return reinterpret_cast<typename V::Row>(__builtin_convertvector(upper, typename V::Bits) << 16);
}

/// The nearest bf16 in the upper half, as to_bf16() rounds; the lower half is anything.
template <typename Row>
DCS3GD_INLINE auto rounded_to_bf16(Row value) {
  using Bits = typename Vector<sizeof(Row) / sizeof(float)>::Bits;
  constexpr std::uint32_t kQuietNan = 0x00400000;
  const Bits bits = reinterpret_cast<Bits>(value);
  const Bits rounded = bits + 0x7FFFU + ((bits >> 16) & 1U);
  return value != value ? bits | kQuietNan : rounded;
}

template <typename Row>
DCS3GD_INLINE void store(Row value, float* to) {
  *reinterpret_cast<typename Vector<sizeof(Row) / sizeof(float)>::UnalignedRow*>(to) = value;
}
template <typename Row>
DCS3GD_INLINE void store(Row value, Bf16* to) {
  using V = Vector<sizeof(Row) / sizeof(float)>;
  *reinterpret_cast<typename V::UnalignedHalves*>(to) =
      __builtin_convertvector(rounded_to_bf16(value) >> 16, typename V::Halves);
}

}  // namespace dcs3gd::nn
