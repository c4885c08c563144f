#pragma once

namespace dcs3gd::optim {

/// What one slice's share of a step needs of the function U; see momentum_sgd.h.
struct MomentumRule {
  float momentum;
  float weight_decay;
  float learning_rate;
  bool nesterov;
};

/// U for one element: moves the velocity and returns the update.
inline float momentum_update(const MomentumRule& rule, float gradient, float weight, float& velocity) {
  const float decayed = gradient + rule.weight_decay * weight;
  velocity = rule.momentum * velocity + decayed;
  const float direction = rule.nesterov ? decayed + rule.momentum * velocity : velocity;
  return -rule.learning_rate * direction;
}

}  // namespace dcs3gd::optim
