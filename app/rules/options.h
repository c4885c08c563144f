#pragma once

#include <optional>
#include <string>

#include "comm/options.h"
#include "core/optim/delay_compensation.h"
#include "core/optim/momentum_sgd.h"

namespace dcs3gd::app {

/// Scope of the norms in eq. 17.
enum class LambdaNorm { global, tensor };

/// The `algorithm:` section of the configuration.
struct AlgorithmOptions {
  std::string name = "dc_s3gd";  ///< one of rules() (app/rules/table.h)
  double lambda0 = optim::CompensationOptions().lambda0;
  LambdaNorm lambda_norm = LambdaNorm::global;
  std::optional<double> lambda_max;
  int workers_per_rank = 1;
  int batch_per_worker = 128;
  int micro_batches = 1;  ///< passes that a worker's batch is computed in; divides batch_per_worker
  float label_smoothing = 0;
  std::optional<double> gradient_clip_norm;

  int images_per_pass() const { return batch_per_worker / micro_batches; }
};

/// All settings that an update rule depends on.
struct RuleOptions {
  AlgorithmOptions algorithm = {};
  optim::MomentumSgdOptions sgd = {};
  comm::Wire wire = comm::Wire::fp32;
  std::optional<double> loss_limit = {};  ///< a loss above it counts as diverged
};

}  // namespace dcs3gd::app
