#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "comm/options.h"
#include "core/optim/delay_compensation.h"
#include "core/optim/momentum_sgd.h"

namespace dcs3gd::app {

/// Scope of the norms in eq. 17.
enum class LambdaNorm { global, tensor };
/// Who forms an update of its own.
enum class WorkerKind {
  rank,  ///< each rank, or each of its workers_per_rank
  host,  ///< the ranks of a host together, from the average of their gradients
};
/// What stands for the curvature in the delay compensation.
enum class CorrectionForm {
  diagonal,  ///< g ⊙ g
  rank_one,  ///< g gᵀ
};

/// The `algorithm:` section of the configuration. Without a word it is the paper's.
struct AlgorithmOptions {
  std::string name = "dc_s3gd";  ///< one of rules() (app/rules/table.h)
  WorkerKind worker = WorkerKind::rank;
  std::optional<double> own_momentum;     ///< β, 0 … optimizer.momentum; none: the paper's, that of the optimizer
  std::optional<double> fresh = 0;        ///< share of the parameters that is never stale; none: planned at the start
  double overlap_from_epoch = 0;          ///< before, every step is synchronous
  std::optional<double> staleness_limit;  ///< of price / loss: above it the next steps are synchronous
  double lambda0 = optim::CompensationOptions().lambda0;
  LambdaNorm lambda_norm = LambdaNorm::global;
  std::optional<double> lambda;  ///< a constant in place of eq. 17
  std::optional<double> lambda_max;
  std::optional<double> lambda_until_epoch;  ///< the correction ends there
  CorrectionForm correction = CorrectionForm::diagonal;
  std::optional<double> correction_bound;  ///< of its share of an element of the gradient; none: the paper
  int workers_per_rank = 1;
  int batch_per_worker = 128;
  int micro_batches = 1;  ///< passes that a worker's batch is computed in; divides batch_per_worker
  float label_smoothing = 0;
  std::optional<double> gradient_clip_norm;

  int images_per_pass() const { return batch_per_worker / micro_batches; }
};

/// What a configuration begins with, since it costs no accuracy that could be measured (configs/README.md): one
/// velocity for all workers, and all but about the first twentieth of the parameters fresh. A fixed share and not a
/// planned one, so that two runs of one configuration are the same run.
inline AlgorithmOptions recommended_algorithm() { return {.own_momentum = 0, .fresh = 0.95}; }

/// All settings that an update rule depends on.
struct RuleOptions {
  AlgorithmOptions algorithm = {};
  optim::MomentumSgdOptions sgd = {};
  comm::Wire wire = comm::Wire::fp32;
  std::optional<double> loss_limit = {};  ///< a loss above it counts as diverged
  /// Of the settings that are given in epochs: the first step with another one.
  std::int64_t overlap_from_step = 0;
  std::int64_t lambda_until_step = std::numeric_limits<std::int64_t>::max();
};

}  // namespace dcs3gd::app
