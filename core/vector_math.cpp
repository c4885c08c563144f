#include "core/vector_math.h"

#include <cstddef>

#include "core/parallel_blocks.h"
#include "core/simd.h"

namespace dcs3gd {
namespace {

/// Independent partial sums: what lets the compiler use vector registers without reordering a single sum.
constexpr std::size_t kLanes = 16;

DCS3GD_SIMD_CLONES
double block_squared_norm(const float* x, std::size_t count) {
  double lanes[kLanes] = {};
  const std::size_t whole = count - count % kLanes;
  for (std::size_t i = 0; i < whole; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const double value = static_cast<double>(x[i + lane]);
      lanes[lane] += value * value;
    }
  }
  for (std::size_t i = whole; i < count; ++i) lanes[i - whole] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

DCS3GD_SIMD_CLONES
void block_add(const float* x, float* sum, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) sum[i] += x[i];
}

DCS3GD_SIMD_CLONES
void block_scale(float factor, float* x, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) x[i] *= factor;
}

DCS3GD_SIMD_CLONES
void block_move_towards(const float* target, float share, float* values, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) values[i] += share * (target[i] - values[i]);
}

}  // namespace

double squared_norm(std::span<const float> x) {
  return sum_over_blocks<double>(
      x.size(), [&](std::size_t first, std::size_t count) { return block_squared_norm(x.data() + first, count); });
}

void add(std::span<const float> x, std::span<float> sum) {
  for_each_block(x.size(),
                 [&](std::size_t first, std::size_t count) { block_add(x.data() + first, sum.data() + first, count); });
}

void scale(float factor, std::span<float> x) {
  for_each_block(x.size(), [&](std::size_t first, std::size_t count) { block_scale(factor, x.data() + first, count); });
}

void move_towards(std::span<const float> target, float share, std::span<float> values) {
  for_each_block(values.size(), [&](std::size_t first, std::size_t count) {
    block_move_towards(target.data() + first, share, values.data() + first, count);
  });
}

}  // namespace dcs3gd
