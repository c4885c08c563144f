#include "core/optim/momentum_sgd.h"

namespace dcs3gd::optim {

float weight_decay_of(const ParameterSlice& slice, const MomentumSgdOptions& options) {
  const float decay = slice.weight_decay.value_or(options.weight_decay);
  switch (slice.kind) {
    case ParameterKind::weight:
      return decay;
    case ParameterKind::bias:
    case ParameterKind::norm:
      return options.decay_norm_and_bias ? decay : 0.0F;
    case ParameterKind::statistics:
      break;
  }
  return 0.0F;
}

}  // namespace dcs3gd::optim
