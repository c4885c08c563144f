#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "app/config/configuration.h"
#include "app/rules/running_statistics.h"
#include "app/rules/table.h"
#include "comm/communicator.h"
#include "core/parameter_arena.h"
#include "nn/network.h"

/// Small training runs of the real update rules, with all ranks as threads of the test.
namespace dcs3gd::app::test {

/// A batch of normal images and uniform labels for each step and worker.
class Batches {
 public:
  Batches(const nn::Graph& graph, int images_per_batch, int workers, std::int64_t steps);

  nn::BatchView at(std::int64_t step, int worker) const;
  /// The first pixel of the batch, to spoil it.
  float& first_pixel(std::int64_t step, int worker);
  int images_per_batch() const { return images_per_batch_; }

 private:
  std::size_t place(std::int64_t step, int worker) const;

  int images_per_batch_;
  int workers_;
  std::size_t floats_per_batch_;
  std::vector<float> images_;
  std::vector<std::int32_t> labels_;
};

/// What is run, the same on all ranks.
struct Experiment {
  const nn::Graph& graph;
  int images_per_batch;
  /// Borrowed until the next call.
  std::function<nn::BatchView(std::int64_t step, int worker)> batch;
  std::int64_t steps = 6;
  int ranks = 1;
  AlgorithmOptions algorithm = {};
  optim::MomentumSgdOptions sgd = {};
  comm::Wire wire = comm::Wire::fp32;
  std::string all_reduce = "ring";  ///< as comm.algorithm
  std::optional<int> ranks_per_host = {};
  std::int64_t overlap_from_step = 0;
  std::optional<double> loss_limit = {};
  /// Fills the first weights and running statistics; none: nn::initialize.
  std::function<void(ParameterArena& weights, ParameterArena& statistics)> initialize = {};
  std::function<double(std::int64_t step)> learning_rate = [](std::int64_t step) { return 0.02 * (step + 1); };
};

/// One rank's parts.
class Rank {
 public:
  Rank(const Experiment& experiment, comm::Communicator& communicator);
  Rank(const Rank&) = delete;
  Rank& operator=(const Rank&) = delete;

  void step(std::int64_t step);
  /// The mean model after the steps so far.
  std::vector<float> drain();
  /// The mean model as drained last.
  std::vector<float> drained() const { return {mean_model_.values().begin(), mean_model_.values().end()}; }
  /// The running statistics' mean over the ranks.
  std::vector<float> average_statistics();
  /// Evaluates the mean model drained last, as validation does; the network keeps its weights.
  void use_network();

  /// Makes the rule anew, at the mean model drained last, and gives it the state of the old one.
  void restart_from_state();
  /// Everyone's bytes, by rank.
  std::vector<std::string> gather_bytes(std::span<const std::byte> bytes);

  int number() const { return communicator_.rank(); }
  nn::Network& network() { return network_; }
  UpdateRule& rule() { return *rule_; }
  /// Of the steps known so far.
  const std::vector<StepReport>& reports() const { return reports_; }

 private:
  std::unique_ptr<UpdateRule> make(ParameterArena weights);
  int number_of_first_worker() const;

  const Experiment& experiment_;
  comm::Communicator& communicator_;
  nn::Network network_;
  ParameterArena mean_model_;
  ParameterArena mean_statistics_;
  RunningStatistics statistics_;
  std::int64_t batches_ = 0;
  std::vector<StepReport> reports_;
  std::unique_ptr<UpdateRule> rule_;
};

/// Calls `body` on all ranks, each in a thread with an OpenMP team of 1, and rethrows the first exception.
void run_ranks(const Experiment& experiment, const std::function<void(Rank&)>& body);

/// What a rank saw of a run.
struct Trajectory {
  std::vector<std::vector<float>> mean_models;  ///< after each step, or only after the last
  std::vector<float> mean_statistics;           ///< at the end
  std::vector<StepReport> reports;
};

/// When the mean model is looked at: training must not notice.
enum class Look {
  at_the_end,
  after_each_step,
  after_each_step_and_use_the_network,
};

/// Runs all steps; the result by rank.
std::vector<Trajectory> run(const Experiment& experiment, Look look = Look::after_each_step);

/// ‖a − b‖ / ‖b‖
double relative_difference(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace dcs3gd::app::test
