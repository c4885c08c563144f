#include "core/optim/momentum_sgd.h"

#include <utility>

#include "core/parallel_blocks.h"
#include "core/simd.h"

namespace dcs3gd::optim {
namespace {

DCS3GD_SIMD_CLONES
void update_block(const MomentumRule rule, const float* gradient, const float* weights, float* velocity, float* update,
                  std::size_t count) {
  DCS3GD_INDEPENDENT_ITERATIONS
  for (std::size_t i = 0; i < count; ++i) update[i] = momentum_update(rule, gradient[i], weights[i], velocity[i]);
}

}  // namespace

float weight_decay_of(const ParameterSlice& slice, const MomentumSgdOptions& options) {
  switch (slice.kind) {
    case ParameterKind::weight:
      return options.weight_decay;
    case ParameterKind::bias:
    case ParameterKind::norm:
      return options.decay_norm_and_bias ? options.weight_decay : 0.0F;
    case ParameterKind::statistics:
      break;
  }
  return 0.0F;
}

MomentumRule momentum_rule(const ParameterSlice& slice, const MomentumSgdOptions& options, double learning_rate) {
  return {options.momentum, weight_decay_of(slice, options), static_cast<float>(learning_rate), options.nesterov};
}

MomentumSgd::MomentumSgd(std::shared_ptr<const ParameterLayout> layout, const MomentumSgdOptions& options)
    : options_(options), velocity_(std::move(layout)) {}

void MomentumSgd::compute_update(const ParameterArena& gradient, const ParameterArena& weights, double learning_rate,
                                 ParameterArena& update) {
  for (const ParameterSlice& slice : velocity_.layout().slices()) {
    const MomentumRule rule = momentum_rule(slice, options_, learning_rate);
    const float* g = gradient.slice(slice).data();
    const float* w = weights.slice(slice).data();
    float* v = velocity_.slice(slice).data();
    float* u = update.slice(slice).data();
    for_each_block(slice.count, [&](std::size_t first, std::size_t count) {
      update_block(rule, g + first, w + first, v + first, u + first, count);
    });
  }
}

}  // namespace dcs3gd::optim
