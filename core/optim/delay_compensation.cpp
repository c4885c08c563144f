#include "core/optim/delay_compensation.h"

#include <algorithm>
#include <cmath>

#include "core/parallel_blocks.h"
#include "core/simd.h"

namespace dcs3gd::optim {
namespace {

/// Independent partial sums: what lets the compiler use vector registers without reordering a single sum.
constexpr std::size_t kLanes = 8;

/// g²·D can underflow in fp32 where neither factor is small: the product is taken in double.
DCS3GD_SIMD_CLONES
CompensationNorms block_norms(const float* gradient, const float* mean_update, const float* update, std::size_t count) {
  double gradient_sums[kLanes] = {};
  double product_sums[kLanes] = {};
  double distance_sums[kLanes] = {};
  double update_sums[kLanes] = {};
  double along_sums[kLanes] = {};
  const auto add = [&](std::size_t lane, std::size_t i) __attribute__((always_inline)) {
    const double g = gradient[i];
    const double u = update[i];
    const double distance = mean_update[i] - update[i];  // in fp32, as the correction uses it
    const double g2 = g * g;
    const double product = g2 * distance;
    gradient_sums[lane] += g2;
    product_sums[lane] += product * product;
    distance_sums[lane] += distance * distance;
    update_sums[lane] += u * u;
    along_sums[lane] += g * distance;
  };
  const std::size_t whole = count - count % kLanes;
  for (std::size_t i = 0; i < whole; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) add(lane, i + lane);
  }
  for (std::size_t i = whole; i < count; ++i) add(i - whole, i);
  CompensationNorms total;
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    total += {gradient_sums[lane], product_sums[lane], distance_sums[lane], update_sums[lane], along_sums[lane]};
  }
  return total;
}

}  // namespace

CompensationNorms& CompensationNorms::operator+=(const CompensationNorms& other) {
  gradient += other.gradient;
  product += other.product;
  distance += other.distance;
  update += other.update;
  along += other.along;
  return *this;
}

void CompensationNorms::scale_gradient(double factor) {
  gradient *= factor * factor;
  product *= factor * factor * factor * factor;
  along *= factor;
}

void CompensationNorms::scale_updates(double factor) {
  product *= factor * factor;
  distance *= factor * factor;
  update *= factor * factor;
  along *= factor;
}

CompensationNorms compensation_norms(std::span<const float> gradient, std::span<const float> mean_update,
                                     std::span<const float> update) {
  return sum_over_blocks<CompensationNorms>(gradient.size(), [&](std::size_t first, std::size_t count) {
    return block_norms(gradient.data() + first, mean_update.data() + first, update.data() + first, count);
  });
}

double compensation_lambda(const CompensationNorms& norms, const CompensationOptions& options) {
  const double noise = options.workers * options.rounding;
  if (norms.distance <= noise * noise * norms.update) return 0;
  const double lambda = options.lambda.value_or(options.lambda0 * std::sqrt(norms.gradient) / std::sqrt(norms.product));
  if (!std::isfinite(static_cast<float>(lambda))) return 0;
  return options.lambda_max ? std::min(lambda, *options.lambda_max) : lambda;
}

}  // namespace dcs3gd::optim
