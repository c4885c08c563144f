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
  };
  const std::size_t whole = count - count % kLanes;
  for (std::size_t i = 0; i < whole; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) add(lane, i + lane);
  }
  for (std::size_t i = whole; i < count; ++i) add(i - whole, i);
  CompensationNorms total;
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    total += {gradient_sums[lane], product_sums[lane], distance_sums[lane], update_sums[lane]};
  }
  return total;
}

DCS3GD_SIMD_CLONES
void add_block(const float* x, const float* y, float* sum, std::size_t count) {
  DCS3GD_INDEPENDENT_ITERATIONS
  for (std::size_t i = 0; i < count; ++i) sum[i] = x[i] + y[i];
}

DCS3GD_SIMD_CLONES
void worker_block(const MomentumRule rule, const CompensatedWorker worker, const float* mean_weights,
                  const float* mean_update, std::size_t count) {
  DCS3GD_INDEPENDENT_ITERATIONS
  for (std::size_t i = 0; i < count; ++i) {
    const float g = worker.gradient[i];
    const float distance = mean_update[i] - worker.update[i];
    // In this order: g·g·D may underflow in fp32, and λ·g overflow, where the correction is an ordinary number.
    const float compensated = g + worker.lambda * (g * distance) * g;
    worker.update[i] = momentum_update(rule, compensated, mean_weights[i], worker.velocity[i]);
  }
}

CompensatedWorker at(const CompensatedWorker& worker, std::size_t first) {
  return {worker.gradient + first, worker.velocity + first, worker.update + first, worker.lambda};
}

}  // namespace

CompensationNorms& CompensationNorms::operator+=(const CompensationNorms& other) {
  gradient += other.gradient;
  product += other.product;
  distance += other.distance;
  update += other.update;
  return *this;
}

void CompensationNorms::scale_gradient(double factor) {
  gradient *= factor * factor;
  product *= factor * factor * factor * factor;
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
  const double lambda = options.lambda0 * std::sqrt(norms.gradient) / std::sqrt(norms.product);
  if (!std::isfinite(static_cast<float>(lambda))) return 0;
  return options.lambda_max ? std::min(lambda, *options.lambda_max) : lambda;
}

void compensated_step(const MomentumRule& rule, std::span<const CompensatedWorker> workers, float* mean_weights,
                      float* mean_update, float* local_weights, std::size_t count) {
  for_each_block(count, [&](std::size_t first, std::size_t n) {
    float* m = mean_weights + first;
    float* travelling = mean_update + first;
    add_block(m, travelling, m, n);
    for (const CompensatedWorker& worker : workers) worker_block(rule, at(worker, first), m, travelling, n);
    std::copy_n(workers[0].update + first, n, travelling);
    for (const CompensatedWorker& worker : workers.subspan(1))
      add_block(travelling, worker.update + first, travelling, n);
    add_block(m, workers[0].update + first, local_weights + first, n);
  });
}

void add_update(std::span<const float> mean_weights, std::span<const float> update, std::span<float> local_weights) {
  for_each_block(mean_weights.size(), [&](std::size_t first, std::size_t count) {
    add_block(mean_weights.data() + first, update.data() + first, local_weights.data() + first, count);
  });
}

}  // namespace dcs3gd::optim
