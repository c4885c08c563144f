#pragma once

#include "core/parameter_arena.h"

namespace dcs3gd::optim {

/// SGD with momentum in the form that PyTorch uses (Sutskever et al. 2013): the learning rate multiplies the velocity,
/// it does not enter it. worker_update.h is how it is computed. Affects results.
///
///   v ← μ v + g + wd·w      w ← w − η v                   (Nesterov: w ← w − η (g + wd·w + μ v) with the new v)
struct MomentumSgdOptions {
  float momentum = 0.9F;  ///< μ, 0 … < 1
  bool nesterov = false;
  float weight_decay = 5e-4F;        ///< wd, ≥ 0
  bool decay_norm_and_bias = false;  ///< also decay biases and batch-norm parameters, not only weights
};

/// The weight decay of a slice under these options: wd, or the slice's own in its place, or 0. Running statistics never
/// decay.
float weight_decay_of(const ParameterSlice& slice, const MomentumSgdOptions& options);

}  // namespace dcs3gd::optim
