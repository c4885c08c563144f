#pragma once

#include <bit>
#include <cstdint>

namespace dcs3gd {

/// A bf16: the upper half of an fp32. NaN stays NaN. No value by itself: a buffer is not zeroed before it is filled.
struct Bf16 {
  std::uint16_t bits;
};

/// To nearest, ties to even.
inline Bf16 to_bf16(float value) {
  constexpr std::uint32_t kQuietNan = 0x0040;
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t upper = bits >> 16;
  // Half a unit, less one if the kept half is even: a tie then carries only into odd values.
  const std::uint32_t rounded = (bits + 0x7FFFU + (upper & 1U)) >> 16;
  return {static_cast<std::uint16_t>(value != value ? upper | kQuietNan : rounded)};
}

inline float to_float(Bf16 value) { return std::bit_cast<float>(std::uint32_t{value.bits} << 16); }
inline float to_float(float value) { return value; }

}  // namespace dcs3gd
