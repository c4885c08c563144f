#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "app/config/configuration.h"
#include "app/rules/running_statistics.h"
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
  double compute_ms = 0;           ///< gradients and update
  double all_reduce_ms = 0;        ///< of the all-reduce this step waited for
  double wait_ms = 0;              ///< of it what was not hidden
  bool stop_wanted = false;        ///< by a rank; known to all ranks with the same record
  bool checkpoint_wanted = false;  ///< likewise
  bool all_ready = false;          ///< every rank was ready to go on with the checkpoint under way
};

/// What a rank wants of all ranks. Travels with the step, so that all know of it at the same step.
struct RankWishes {
  bool stop = false;
  bool checkpoint = false;
  bool ready = false;  ///< to go on with the checkpoint under way (app/checkpoint_writer.h)
};

/// An array of an algorithm's state under the name it has in checkpoints.
struct StateArray {
  std::string name;
  ParameterArena* values;
};

/// What an algorithm needs to go on exactly as if it had never stopped.
struct AlgorithmState {
  std::vector<StateArray> shared;                ///< the same on all ranks
  std::vector<std::vector<StateArray>> workers;  ///< of this rank's workers
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
  /// Receives each step when all that belongs to it is known: at once, or one step later. No all-reduce is under way
  /// then: it may communicate, as all ranks receive the same step.
  std::function<void(const StepRecord&)> on_step;
  /// Asked once a step.
  std::function<RankWishes()> wishes = [] { return RankWishes(); };
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

  /// The state behind a drain(), to be saved or to be filled. All arrays are twins of the weights; those called
  /// "velocity" are averaged when a run goes on with another number of workers, and "update" is then 0.
  virtual AlgorithmState state() = 0;
  /// The state was filled: goes on from there, as behind the drain() and resume() it was saved at.
  virtual void restart() = 0;
};

/// The algorithm of the configuration, starting at `weights` (the same on all ranks).
std::unique_ptr<UpdateAlgorithm> make_update_algorithm(const AlgorithmSurroundings& surroundings,
                                                       ParameterArena weights);

}  // namespace dcs3gd::app
