#include "core/optim/worker_update.h"

#include <algorithm>

#include "core/parallel_blocks.h"
#include "core/simd.h"

namespace dcs3gd::optim {
namespace {

/// sum = x + scale·y
DCS3GD_SIMD_CLONES
void add_scaled_block(const float* x, float scale, const float* y, float* sum, std::size_t count) {
  DCS3GD_INDEPENDENT_ITERATIONS
  for (std::size_t i = 0; i < count; ++i) sum[i] = x[i] + scale * y[i];
}

DCS3GD_SIMD_CLONES
void worker_block(const UpdateFormula formula, const float* gradient, const Correction correction,
                  const float* mean_weights, const float* mean_update, float* update, std::size_t count) {
  DCS3GD_INDEPENDENT_ITERATIONS
  for (std::size_t i = 0; i < count; ++i) {
    const float g = gradient[i];
    const float distance = mean_update[i] - update[i];
    // In this order: g·g·D may underflow in fp32, and λ·g overflow, where the correction is an ordinary number.
    const float share = std::min(std::max(correction.lambda * (g * distance), -correction.bound), correction.bound);
    const float compensated = g + (share + correction.common) * g;
    update[i] = formula.momentum * mean_update[i] - formula.own_momentum * distance -
                formula.learning_rate * (compensated + formula.weight_decay * mean_weights[i]);
  }
}

DCS3GD_SIMD_CLONES
void mean_block(const UpdateFormula formula, float scale, const float* gradient, float* mean_weights,
                float* mean_update, std::size_t count) {
  DCS3GD_INDEPENDENT_ITERATIONS
  for (std::size_t i = 0; i < count; ++i) {
    const float decayed = scale * gradient[i] + formula.weight_decay * mean_weights[i];
    const float update = formula.momentum * mean_update[i] - formula.learning_rate * decayed;
    mean_weights[i] += formula.reach * update - formula.known_part * mean_update[i];
    mean_update[i] = update;
  }
}

}  // namespace

float reach_of(const MomentumSgdOptions& options) { return options.nesterov ? 1 + options.momentum : 1; }

UpdateFormula update_formula(const ParameterSlice& slice, const MomentumSgdOptions& options, float own_momentum,
                             double learning_rate, double previous_rate) {
  const auto ratio = static_cast<float>(previous_rate > 0 ? learning_rate / previous_rate : 0);
  return {.momentum = ratio * options.momentum,
          .own_momentum = ratio * own_momentum,
          .learning_rate = static_cast<float>(slice.rate_factor * learning_rate),
          .weight_decay = weight_decay_of(slice, options),
          .reach = reach_of(options),
          .known_part = options.nesterov ? ratio * options.momentum : 0};
}

void form_updates(const UpdateFormula& formula, std::span<const WorkerArrays> workers, bool has_arrived,
                  float* mean_weights, const float* mean_update, float* update_sum, float* local_weights,
                  std::size_t count, bool only_news) {
  for_each_block(count, [&](std::size_t first, std::size_t n) {
    float* m = mean_weights + first;
    const float* mean = mean_update + first;
    float* sum = update_sum + first;
    if (!has_arrived) add_scaled_block(m, formula.reach, mean, m, n);
    for (const WorkerArrays& worker : workers) {
      worker_block(formula, worker.gradient + first, worker.correction, m, mean, worker.update + first, n);
    }
    if (formula.known_part != 0) add_scaled_block(m, -formula.known_part, mean, m, n);
    std::copy_n(workers[0].update + first, n, sum);
    for (const WorkerArrays& worker : workers.subspan(1)) add_scaled_block(sum, 1, worker.update + first, sum, n);
    if (only_news) add_scaled_block(sum, -static_cast<float>(workers.size()) * formula.momentum, mean, sum, n);
    add_scaled_block(m, formula.reach, workers[0].update + first, local_weights + first, n);
  });
}

void receive_news(const UpdateFormula& formula, std::span<const float> mean_news, std::span<float> mean_update) {
  for_each_block(mean_update.size(), [&](std::size_t first, std::size_t n) {
    add_scaled_block(mean_news.data() + first, formula.momentum, mean_update.data() + first, mean_update.data() + first,
                     n);
  });
}

void apply_mean_gradient(const UpdateFormula& formula, float scale, std::span<const float> mean_gradient,
                         std::span<float> mean_weights, std::span<float> mean_update) {
  for_each_block(mean_gradient.size(), [&](std::size_t first, std::size_t n) {
    mean_block(formula, scale, mean_gradient.data() + first, mean_weights.data() + first, mean_update.data() + first,
               n);
  });
}

void add_update(std::span<const float> mean_weights, float reach, std::span<const float> update,
                std::span<float> weights) {
  for_each_block(mean_weights.size(), [&](std::size_t first, std::size_t n) {
    add_scaled_block(mean_weights.data() + first, reach, update.data() + first, weights.data() + first, n);
  });
}

}  // namespace dcs3gd::optim
