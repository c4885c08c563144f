#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "app/rules/running_statistics.h"
#include "comm/communicator.h"
#include "core/parameter_arena.h"
#include "nn/network.h"

/// Update rules: how the gradients of N workers become new weights. A training step is three verbs, of which the
/// all-reduce of a rule that hides its communication runs from the last one of a step to the second one of the next:
///
///   rule.compute_gradients(step, next_batch);        g = ∇l(w)                  | the averages of the step before
///   auto report = rule.receive();                    ū = wait()                 | arrive meanwhile
///   rule.update_and_send(learning_rate, tail);       w, u; start averaging      |
///
/// app/rules/table.h lists the rules; each has a file of its own.
namespace dcs3gd::app {

/// A few numbers of the caller's own that are summed over all ranks together with a step.
using Tail = std::array<float, 7>;

/// What one training step did. Losses and norms are means over all N workers; times are this rank's.
struct StepReport {
  std::int64_t step = 0;  ///< 0-based
  double learning_rate = 0;
  double loss = 0;  ///< before the update, without the decay's term
  double gradient_norm = 0;
  double lambda = 0;
  double distance_norm = 0;
  double staleness_price =
      0;  ///< S = −½·mean ⟨g, D⟩: how much lower the loss is at the mean model than at the workers'
  double staleness_sharpness = 0;  ///< ρ = η·2S/mean ‖D‖²: learning rate times curvature along the workers' distances
  double step_ms = 0;              ///< in the three verbs
  double compute_ms = 0;           ///< of it gradients, with their batches, and update
  double wait_ms = 0;              ///< of it the wait for all-reduces and nothing else: what was not hidden
  double all_reduce_ms = 0;        ///< in which those that this step waited for were in flight
  Tail tail = {};                  ///< sums over all ranks
};

/// The price of staleness of one parameter alone.
struct TensorPrice {
  std::string name;
  double price = 0;
};

/// What becomes of an array when a run continues with another number of workers.
enum class OnResize {
  average,  ///< every worker gets the mean over the saved workers; an array shared by all workers stays as saved
  restart,  ///< it is as in a run that starts at the mean model: a worker's own is 0
};

/// An array of a rule's state under the name it has in checkpoints: a twin of the weights.
struct StateArray {
  std::string name;
  ParameterArena* values;
  OnResize on_resize;
};

/// The number of a rule's state that says how much of the model is fresh.
constexpr const char* kFreshShare = "fresh_share";

/// A number of a rule's state.
struct StateNumber {
  std::string name;
  double* value;
};

/// What a rule needs to continue exactly as if it had never stopped.
struct RuleState {
  std::vector<StateNumber> numbers;              ///< the same on all ranks
  std::vector<StateArray> shared;                ///< the same on all ranks
  std::vector<std::vector<StateArray>> workers;  ///< of this rank's workers
  std::vector<StateArray> rank = {};             ///< of this rank; nothing to any other number of ranks
  std::vector<StateArray> mean = {};  ///< what workers[k] would be of one worker in place of all; never filled
};

/// What a checkpoint has brought back of a rule's state.
enum class Restored {
  mean,  ///< the arrays are what OnResize makes of those of another number of workers, those of ranks as at the start
  workers,  ///< all but the arrays of ranks, which are as at the start
  all,
};

/// What a rule works with. All of it outlives the rule.
struct RuleParts {
  comm::Communicator& communicator;
  nn::Network& network;
  RunningStatistics& running_statistics;
};

/// This rank's next batch; called K times a step, worker by worker.
using BatchSource = std::function<nn::BatchView()>;

/// One rank's part of an update rule, with its state. All ranks call the same functions in the same order, from one
/// thread. Errors: Error{diverged} on all ranks at the same step when a gradient anywhere is not finite or the loss is
/// above its limit, before the mean model changes; errors of the network and the communicator.
class UpdateRule {
 public:
  virtual ~UpdateRule() = default;

  /// Steps 0, 1, …: the gradients of this rank's K workers, each at its own weights.
  virtual void compute_gradients(std::int64_t step, const BatchSource& next_batch) = 0;
  /// Waits for the averages in flight. Returns the step whose sums they complete: the one before this; none at the
  /// first, and after drain(). All ranks receive the same step here: the caller may communicate.
  virtual std::optional<StepReport> receive() = 0;
  /// Turns the gradients into new weights and sends what the other ranks have to know.
  virtual void update_and_send(double learning_rate, const Tail& tail) = 0;

  /// Between receive() and update_and_send(), and after drain(): m without the updates in flight, which must be the
  /// same bits on all ranks.
  virtual std::span<const float> shared_weights() const = 0;

  /// Waits until nothing is in flight. Returns the steps whose sums are complete now, oldest first.
  virtual std::vector<StepReport> drain() = 0;
  /// REQUIRES drain(). Writes the mean model of all steps so far.
  virtual void copy_mean_model(ParameterArena& mean_model) const = 0;
  /// Gives the network back the weights of the next gradient, after others had it. drain(), any use of the network and
  /// load_network() leave the trajectory exactly as it was.
  virtual void load_network() = 0;

  /// Which parameters staleness costs: S of each that may be stale, the mean over the overlapped steps since the start
  /// and this rank's workers.
  virtual std::vector<TensorPrice> prices_by_tensor() const = 0;

  /// The state after a drain(), to be saved or to be filled.
  virtual RuleState state() = 0;
  /// The state was filled: continues from there, as after the drain() it was saved at. Collective. Restored::mean: the
  /// rule was made at the mean model.
  virtual void state_loaded(Restored restored) = 0;
};

}  // namespace dcs3gd::app
