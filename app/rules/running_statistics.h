#pragma once

#include "comm/communicator.h"
#include "core/parameter_arena.h"

namespace dcs3gd::app {

/// The running means and variances of batch norm: one set per rank. After every step they move once, towards the mean
/// of the batch statistics of the rank's K workers; by linearity that equals the mean of K sets (PyTorch's momentum
/// 0.1).
class RunningStatistics {
 public:
  explicit RunningStatistics(std::shared_ptr<const ParameterLayout> layout);

  /// Adds the statistics of a worker's batch, or of a part of it, to this step's.
  void add(const ParameterArena& batch_statistics);
  /// Ends the step.
  void advance();

  /// This rank's values, for loading and saving.
  ParameterArena& local() { return local_; }
  /// The mean over all ranks, which evaluation and saved models use. A collective call.
  void average(comm::Communicator& communicator, ParameterArena& mean) const;

 private:
  ParameterArena local_;
  ParameterArena step_sum_;
  int passes_ = 0;  ///< added since the last advance()
};

}  // namespace dcs3gd::app
