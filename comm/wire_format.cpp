#include "comm/wire_format.h"

#include "core/bf16.h"
#include "core/simd.h"

namespace dcs3gd::comm {
namespace {

inline std::uint16_t round_to_bf16(float value) { return dcs3gd::to_bf16(value).bits; }
inline float widen(std::uint16_t value) { return to_float(Bf16{value}); }

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
