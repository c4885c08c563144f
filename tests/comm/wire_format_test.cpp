#include "comm/wire_format.h"

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

namespace dcs3gd::comm {
namespace {

std::uint16_t converted(float value) {
  std::uint16_t result = 0;
  to_bf16(&value, &result, 1);
  return result;
}

float widened(std::uint16_t value) {
  float result = 0;
  from_bf16(&value, &result, 1);
  return result;
}

/// Rounds to nearest even by comparing with both neighbours, in double.
std::uint16_t nearest_bf16(float value) {
  const auto lower = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
  const auto upper = static_cast<std::uint16_t>(lower + 1);  // away from zero
  const double low = static_cast<double>(widened(lower));
  // Beyond the largest bf16 the next value would be 2^128, not infinity.
  const double high = std::isinf(widened(upper)) ? std::copysign(0x1p128, low) : static_cast<double>(widened(upper));
  const double to_low = std::abs(static_cast<double>(value) - low);
  const double to_high = std::abs(high - static_cast<double>(value));
  if (to_low != to_high) return to_low < to_high ? lower : upper;
  return lower % 2 == 0 ? lower : upper;
}

TEST_CASE("to_bf16 rounds every finite half to nearest, ties to even") {
  int wrong = 0;
  for (std::uint32_t half = 0; half < 0x10000; ++half) {
    for (const std::uint32_t rest : {0U, 1U, 0x7FFFU, 0x8000U, 0x8001U, 0xFFFFU}) {
      const auto value = std::bit_cast<float>(half << 16 | rest);
      if (!std::isfinite(value)) continue;
      if (converted(value) != nearest_bf16(value)) ++wrong;
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("NaN stays NaN with its sign, infinity stays infinite, too large becomes infinite") {
  int lost = 0;
  for (std::uint32_t mantissa = 1; mantissa < 0x800000; mantissa = mantissa * 3 / 2 + 1) {
    for (const std::uint32_t sign : {0U, 0x80000000U}) {
      const float back = widened(converted(std::bit_cast<float>(sign | 0x7F800000U | mantissa)));
      if (!std::isnan(back) || std::signbit(back) != (sign != 0)) ++lost;
    }
  }
  CHECK(lost == 0);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  CHECK(widened(converted(-kInfinity)) == -kInfinity);
  CHECK(widened(converted(std::numeric_limits<float>::max())) == kInfinity);
}

TEST_CASE("the loops agree with scalar arithmetic at every length") {
  for (std::size_t count = 0; count < 100; ++count) {
    std::vector<float> incoming(count);
    std::vector<std::uint16_t> incoming_bf16(count);
    std::vector<float> start(count);
    for (std::size_t i = 0; i < count; ++i) {
      incoming[i] = 0.37F * static_cast<float>(i) - 3;
      incoming_bf16[i] = converted(incoming[i]);
      start[i] = 1.0F / (1.0F + static_cast<float>(i));
    }
    std::vector<float> sum = start;
    add(incoming.data(), sum.data(), count);
    std::vector<float> sum_bf16 = start;
    add(incoming_bf16.data(), sum_bf16.data(), count);
    std::vector<float> scaled_sum = start;
    add_and_scale(incoming.data(), 0.3F, scaled_sum.data(), count);
    std::vector<float> scaled_sum_bf16 = start;
    add_and_scale(incoming_bf16.data(), 0.3F, scaled_sum_bf16.data(), count);
    std::vector<float> scaled = start;
    scale(0.3F, scaled.data(), count);
    for (std::size_t i = 0; i < count; ++i) {
      const float rounded = widened(incoming_bf16[i]);
      CHECK(sum[i] == start[i] + incoming[i]);
      CHECK(sum_bf16[i] == start[i] + rounded);
      CHECK(scaled_sum[i] == 0.3F * (start[i] + incoming[i]));
      CHECK(scaled_sum_bf16[i] == widened(converted(0.3F * (start[i] + rounded))));
      CHECK(scaled[i] == 0.3F * start[i]);
    }
  }
}

}  // namespace
}  // namespace dcs3gd::comm
