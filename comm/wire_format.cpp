#include "comm/wire_format.h"

#include <bit>

#include "core/simd.h"

namespace dcs3gd::comm {
namespace {

inline std::uint16_t round_to_bf16(float value) {
  constexpr std::uint32_t kQuietNan = 0x0040;
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t upper = bits >> 16;
  // Half a unit, less one if the kept half is even: a tie then carries only into odd values.
  const std::uint32_t rounded = (bits + 0x7FFFU + (upper & 1U)) >> 16;
  return static_cast<std::uint16_t>(value != value ? upper | kQuietNan : rounded);
}

inline float widen(std::uint16_t value) { return std::bit_cast<float>(std::uint32_t{value} << 16); }

}  // namespace

DCS3GD_SIMD_CLONES
void to_bf16(const float* from, std::uint16_t* to, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) to[i] = round_to_bf16(from[i]);
}

DCS3GD_SIMD_CLONES
void from_bf16(const std::uint16_t* from, float* to, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) to[i] = widen(from[i]);
}

DCS3GD_SIMD_CLONES
void add(const float* incoming, float* sum, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) sum[i] += incoming[i];
}

DCS3GD_SIMD_CLONES
void add(const std::uint16_t* incoming, float* sum, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) sum[i] += widen(incoming[i]);
}

DCS3GD_SIMD_CLONES
void scale(float factor, float* values, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) values[i] *= factor;
}

DCS3GD_SIMD_CLONES
void add_and_scale(const float* incoming, float factor, float* sum, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) sum[i] = factor * (sum[i] + incoming[i]);
}

DCS3GD_SIMD_CLONES
void add_and_scale(const std::uint16_t* incoming, float factor, float* sum, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) sum[i] = widen(round_to_bf16(factor * (sum[i] + widen(incoming[i]))));
}

}  // namespace dcs3gd::comm
