#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "app/configuration.h"
#include "app/running_statistics.h"
#include "comm/communicator.h"
#include "core/parameter_arena.h"
#include "nn/network.h"

namespace dcs3gd::app {

/// What one training step did. Losses and norms are means over all N workers; times are this rank's.
struct StepRecord {
  std::int64_t step = 0;  ///< 0-based
  double learning_rate = 0;
  double loss = 0;  ///< before the update, without the decay's term
  double gradient_norm = 0;
  double lambda = 0;
  double distance_norm = 0;
  double step_ms = 0;
  double compute_ms = 0;     ///< gradients and update
  double all_reduce_ms = 0;  ///< of the all-reduce this step waited for
  double wait_ms = 0;        ///< of it what was not hidden
};

/// What an algorithm works with. All of it outlives the algorithm.
struct AlgorithmSurroundings {
  comm::Communicator& communicator;
  nn::Network& network;
  RunningStatistics& running_statistics;
  const AlgorithmConfiguration& algorithm;
  const optim::MomentumSgdOptions& sgd;
  comm::Wire wire;
  std::optional<double> loss_limit;
  /// This rank's next batch: called K times a step, worker by worker.
  std::function<nn::BatchView()> next_batch;
  /// Receives each step when all that belongs to it is known: at once, or one step later.
  std::function<void(const StepRecord&)> on_step;
};

/// An update rule with its state: how N workers' gradients become new weights. One object per rank; all ranks call the
/// same functions in the same order, from one thread. Errors: Error{diverged} on all ranks at the same step when a
/// gradient anywhere is not finite or the loss is above its limit, before the mean model changes; errors of the network
/// and the communicator.
class UpdateAlgorithm {
 public:
  virtual ~UpdateAlgorithm() = default;

  /// Step 0, 1, …: K gradients on this rank, their exchange, the update.
  virtual void step(std::int64_t step, double learning_rate) = 0;
  /// Waits until nothing is under way and writes the mean model of all finished steps.
  virtual void drain(ParameterArena& mean_model) = 0;
  /// Gives the network back the weights of the next gradient, after others had it. drain(), any use of the network and
  /// resume() leave the trajectory exactly as it was.
  virtual void resume() = 0;
};

/// The algorithm of the configuration, starting at `weights` (the same on all ranks).
std::unique_ptr<UpdateAlgorithm> make_update_algorithm(const AlgorithmSurroundings& surroundings,
                                                       const ParameterArena& weights);

}  // namespace dcs3gd::app
