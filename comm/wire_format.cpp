#include "comm/wire_format.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/bf16.h"
#include "core/simd.h"

namespace dcs3gd::comm {
namespace {

inline std::uint16_t round_to_bf16(float value) { return dcs3gd::to_bf16(value).bits; }
inline float widen(std::uint16_t value) { return to_float(Bf16{value}); }

/// Adding it to a small number rounds that to a whole one, ties to even, which then stands in the lowest bits.
constexpr float kRounder = 0x1.8p23F;
constexpr float kSmallestScale = 0x1p-100F;

/// One block in parts. Inlined into loops that are compiled for several instruction sets.
template <Wire wire>
struct Block {
  static constexpr bool kIsInt8 = wire == Wire::int8;
  static constexpr float kLevels = kIsInt8 ? 127 : 7;
  static constexpr std::uint32_t kZero = kIsInt8 ? 0 : 8;  ///< the code of 0; those of int4 are not negative
  static constexpr std::size_t kHalf = kBlockFloats / 2;

  /// Rounded to a bf16, so that all multiples are exact and the largest value is the last multiple: the multiples have
  /// the same scale again.
  [[gnu::always_inline]] static float scale_of(const float* values) {
    std::uint32_t largest = 0;  // as whole numbers, infinity is larger than all finite ones, and NaN than infinity
    for (std::size_t i = 0; i < kBlockFloats; ++i) {
      largest = std::max(largest, std::bit_cast<std::uint32_t>(values[i]) & 0x7FFF'FFFFU);
    }
    const float scale = widen(round_to_bf16(std::bit_cast<float>(largest) / kLevels));
    return scale < kSmallestScale ? 0.0F : scale;
  }

  [[gnu::always_inline]] static float inverse(float scale) { return scale == 0 ? 0.0F : 1 / scale; }

  /// The nearest multiple as it is decoded.
  [[gnu::always_inline]] static float rounded(float value, float scale, float inverse_scale) {
    return (value * inverse_scale + kRounder - kRounder) * scale;
  }

  [[gnu::always_inline]] static std::uint32_t code(float value, float inverse_scale) {
    return std::bit_cast<std::uint32_t>(value * inverse_scale + kRounder) + kZero;
  }

  [[gnu::always_inline]] static void write(const float* values, float scale, std::byte* to) {
    const std::uint16_t scale_bits = round_to_bf16(scale);
    std::memcpy(to, &scale_bits, sizeof(scale_bits));
    auto* codes = reinterpret_cast<std::uint8_t*>(to + sizeof(scale_bits));
    const float inverse_scale = inverse(scale);
    if constexpr (kIsInt8) {
      for (std::size_t i = 0; i < kBlockFloats; ++i)
        codes[i] = static_cast<std::uint8_t>(code(values[i], inverse_scale));
    } else {
      for (std::size_t i = 0; i < kHalf; ++i) {
        const std::uint32_t high = code(values[kHalf + i], inverse_scale) << 4;
        codes[i] = static_cast<std::uint8_t>((code(values[i], inverse_scale) & 0xFU) | high);
      }
    }
  }

  [[gnu::always_inline]] static void read(const std::byte* from, float* values) {
    std::uint16_t scale_bits = 0;
    std::memcpy(&scale_bits, from, sizeof(scale_bits));
    const float scale = widen(scale_bits);
    const auto* codes = reinterpret_cast<const std::uint8_t*>(from + sizeof(scale_bits));
    if constexpr (kIsInt8) {
      for (std::size_t i = 0; i < kBlockFloats; ++i) {
        values[i] = static_cast<float>(static_cast<std::int8_t>(codes[i])) * scale;
      }
    } else {
      for (std::size_t i = 0; i < kHalf; ++i) {
        values[i] = static_cast<float>(static_cast<int>(codes[i] & 0xFU) - 8) * scale;
        values[kHalf + i] = static_cast<float>(static_cast<int>(codes[i] >> 4) - 8) * scale;
      }
    }
  }

  /// Calls work(first, floats) for each block; the last one may be short, the others have a length that the compiler
  /// knows.
  template <typename Work>
  [[gnu::always_inline]] static void for_each(std::size_t count, const Work& work) {
    std::size_t first = 0;
    for (; first + kBlockFloats <= count; first += kBlockFloats) work(first, kBlockFloats);
    if (first < count) work(first, count - first);
  }
  static constexpr std::size_t byte_of(std::size_t first) { return wire_bytes(wire, first); }

  [[gnu::always_inline]] static void encode(const float* from, float* loss, std::byte* to, std::size_t count) {
    for_each(
        count, [&](std::size_t first, std::size_t floats) __attribute__((always_inline)) {
          float values[kBlockFloats] = {};
          for (std::size_t i = 0; i < floats; ++i) values[i] = from[first + i];
          for (std::size_t i = 0; loss != nullptr && i < floats; ++i) values[i] += loss[first + i];
          const float scale = scale_of(values);
          write(values, scale, to + byte_of(first));
          const float inverse_scale = inverse(scale);
          for (std::size_t i = 0; loss != nullptr && i < floats; ++i) {
            loss[first + i] = values[i] - rounded(values[i], scale, inverse_scale);
          }
        });
  }

  [[gnu::always_inline]] static void decode(const std::byte* from, float* to, std::size_t count) {
    for_each(
        count, [&](std::size_t first, std::size_t floats) __attribute__((always_inline)) {
          float values[kBlockFloats];
          read(from + byte_of(first), values);
          std::copy_n(values, floats, to + first);
        });
  }

  [[gnu::always_inline]] static void add(const std::byte* incoming, float* sum, std::size_t count) {
    for_each(
        count, [&](std::size_t first, std::size_t floats) __attribute__((always_inline)) {
          float values[kBlockFloats];
          read(incoming + byte_of(first), values);
          for (std::size_t i = 0; i < floats; ++i) sum[first + i] += values[i];
        });
  }

  [[gnu::always_inline]] static void scale_and_round(float factor, float* loss, float* sum, std::size_t count) {
    const float inverse_factor = 1 / factor;
    for_each(
        count, [&](std::size_t first, std::size_t floats) __attribute__((always_inline)) {
          float sums[kBlockFloats] = {};
          float values[kBlockFloats] = {};
          for (std::size_t i = 0; i < floats; ++i) sums[i] = sum[first + i];
          for (std::size_t i = 0; loss != nullptr && i < floats; ++i) sums[i] += loss[first + i];
          for (std::size_t i = 0; i < floats; ++i) values[i] = factor * sums[i];
          const float scale = scale_of(values);
          const float inverse_scale = inverse(scale);
          for (std::size_t i = 0; i < floats; ++i) sum[first + i] = rounded(values[i], scale, inverse_scale);
          for (std::size_t i = 0; loss != nullptr && i < floats; ++i)
            loss[first + i] = sums[i] - inverse_factor * sum[first + i];
        });
  }
};

DCS3GD_SIMD_CLONES
void encode_int8(const float* from, float* loss, std::byte* to, std::size_t count) {
  Block<Wire::int8>::encode(from, loss, to, count);
}
DCS3GD_SIMD_CLONES
void encode_int4(const float* from, float* loss, std::byte* to, std::size_t count) {
  Block<Wire::int4>::encode(from, loss, to, count);
}
DCS3GD_SIMD_CLONES
void decode_int8(const std::byte* from, float* to, std::size_t count) { Block<Wire::int8>::decode(from, to, count); }
DCS3GD_SIMD_CLONES
void decode_int4(const std::byte* from, float* to, std::size_t count) { Block<Wire::int4>::decode(from, to, count); }
DCS3GD_SIMD_CLONES
void add_int8(const std::byte* incoming, float* sum, std::size_t count) {
  Block<Wire::int8>::add(incoming, sum, count);
}
DCS3GD_SIMD_CLONES
void add_int4(const std::byte* incoming, float* sum, std::size_t count) {
  Block<Wire::int4>::add(incoming, sum, count);
}
DCS3GD_SIMD_CLONES
void scale_and_round_int8(float factor, float* loss, float* sum, std::size_t count) {
  Block<Wire::int8>::scale_and_round(factor, loss, sum, count);
}
DCS3GD_SIMD_CLONES
void scale_and_round_int4(float factor, float* loss, float* sum, std::size_t count) {
  Block<Wire::int4>::scale_and_round(factor, loss, sum, count);
}

}  // namespace

void encode(Wire wire, const float* from, float* loss, std::byte* to, std::size_t count) {
  (wire == Wire::int8 ? encode_int8 : encode_int4)(from, loss, to, count);
}

void decode(Wire wire, const std::byte* from, float* to, std::size_t count) {
  (wire == Wire::int8 ? decode_int8 : decode_int4)(from, to, count);
}

void add(Wire wire, const std::byte* incoming, float* sum, std::size_t count) {
  (wire == Wire::int8 ? add_int8 : add_int4)(incoming, sum, count);
}

void scale_and_round(Wire wire, float factor, float* loss, float* sum, std::size_t count) {
  (wire == Wire::int8 ? scale_and_round_int8 : scale_and_round_int4)(factor, loss, sum, count);
}

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
