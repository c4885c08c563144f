#pragma once

#include <memory>

#include "core/optim/momentum_rule.h"
#include "core/parameter_arena.h"

namespace dcs3gd::optim {

/// Affects results.
struct MomentumSgdOptions {
  float momentum = 0.9F;  ///< μ, 0 … < 1
  bool nesterov = false;
  float weight_decay = 5e-4F;        ///< wd, ≥ 0
  bool decay_norm_and_bias = false;  ///< also decay biases and batch-norm parameters, not only weights
};

/// The function U of the algorithm: turns a gradient into an update u and keeps the velocity v (Sutskever et al. 2013
/// in the form that PyTorch uses: the learning rate multiplies the velocity, it does not enter it).
///
///   v ← μ v + g + wd·w      u ← −η v                      (Nesterov: u ← −η (g + wd·w + μ v) with the new v)
///
/// One fused pass over memory. Not thread-safe; the work runs on the caller's OpenMP team.
class MomentumSgd {
 public:
  MomentumSgd(std::shared_ptr<const ParameterLayout> layout, const MomentumSgdOptions& options);

  /// `gradient`, `weights` (those the decay is taken from) and `update` are twins of the layout; the update may take
  /// the place of the gradient.
  void compute_update(const ParameterArena& gradient, const ParameterArena& weights, double learning_rate,
                      ParameterArena& update);

  const ParameterArena& velocity() const { return velocity_; }
  ParameterArena& velocity() { return velocity_; }

 private:
  MomentumSgdOptions options_;
  ParameterArena velocity_;
};

/// The weight decay of a slice under these options: wd or 0. Running statistics never decay.
float weight_decay_of(const ParameterSlice& slice, const MomentumSgdOptions& options);
/// U for this slice at this learning rate.
MomentumRule momentum_rule(const ParameterSlice& slice, const MomentumSgdOptions& options, double learning_rate);

}  // namespace dcs3gd::optim
