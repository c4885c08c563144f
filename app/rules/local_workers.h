#pragma once

#include <cstdint>
#include <optional>

#include "app/rules/options.h"
#include "app/rules/update_rule.h"

namespace dcs3gd::app {

/// The K workers of this rank as they compute gradients, whatever the rule makes of them.
class LocalWorkers {
 public:
  /// Borrows both.
  LocalWorkers(const RuleParts& parts, const AlgorithmOptions& options);

  /// K
  int count() const { return options_.workers_per_rank; }
  /// N
  int total() const { return count() * parts_.communicator.size(); }

  /// Computes worker k's gradient on its next batch at the weights that the network holds, in as many parts as
  /// micro_batches asks for, and notes the batch's statistics. Returns the batch's mean loss.
  double compute_gradient(std::int64_t step, int k, const BatchSource& next_batch, ParameterArena& gradient,
                          const nn::PassHooks& hooks);
  /// The factor that brings a gradient down to gradient_clip_norm; 1 if it is shorter or no limit is set.
  double clip_factor(double squared_norm) const;
  /// Logs that worker k's gradient is not finite.
  void report_non_finite(std::int64_t step, int k) const;

 private:
  int number(int k) const { return parts_.communicator.rank() * count() + k; }

  const RuleParts& parts_;
  const AlgorithmOptions& options_;
  std::optional<ParameterArena> part_gradient_;  ///< of the second and later parts of a batch
};

/// Arrays that LocalWorkers keeps.
std::size_t local_worker_arrays(const AlgorithmOptions& options);

}  // namespace dcs3gd::app
