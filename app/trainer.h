#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "app/configuration.h"
#include "app/evaluator.h"
#include "app/metrics.h"
#include "app/model.h"
#include "app/progress.h"
#include "app/run_folder.h"
#include "app/tensorboard_events.h"
#include "app/threads.h"
#include "app/update_algorithm.h"
#include "comm/communicator.h"
#include "core/optim/learning_rate.h"
#include "core/stopwatch.h"
#include "data/batch_loader.h"

namespace dcs3gd::app {

/// The data sets of a run, opened and checked.
struct Datasets {
  explicit Datasets(const Configuration& configuration);

  std::shared_ptr<const data::Dataset> train;
  std::shared_ptr<const data::Dataset> eval;
};

/// One training run on this rank: steps, evaluations, and what is written to the run folder (by rank 0). Not
/// thread-safe.
class Trainer {
 public:
  /// Builds all that the run needs. Not collective, and writes nothing: what is wrong with data or weights is found
  /// here. `command` is the command line for the record.
  Trainer(const Configuration& configuration, comm::Communicator& communicator, const RunFolder& folder,
          const ThreadPlan& threads, const std::string& command);

  /// Equal on all ranks whose data sets hold the same.
  std::string data_fingerprint() const;

  /// Collective: from the first step to the last, with a final evaluation and the final model. The folder must have
  /// been claimed. Whatever ends the run before, stands in metrics.jsonl and summary.json before it is thrown on.
  void train();

 private:
  void start();
  void report_start();
  void run_steps();
  bool ends_epoch(std::int64_t step) const;
  bool evaluation_is_due(std::int64_t step) const;
  void evaluate(std::int64_t step);
  void save_model(const std::string& path) const;
  void write_start();
  void write_end(const std::string& status, int exit_code);
  void log_end(const EndEvent& event) const;
  void on_step(const StepRecord& record);
  std::int64_t epoch_of(std::int64_t step) const { return step / steps_per_epoch_ + 1; }
  void write(const Event& event);

  // What the run is made of; constant after construction.
  const Configuration& configuration_;
  comm::Communicator& communicator_;
  const RunFolder& folder_;
  const ThreadPlan threads_;
  const std::string command_;

  // Working parts.
  const Datasets datasets_;
  Model model_;
  data::BatchLoader loader_;
  const std::int64_t steps_per_epoch_;
  const std::int64_t steps_;  ///< at which the run ends
  optim::LearningRateSchedule schedule_;
  AlgorithmSurroundings surroundings_;
  std::unique_ptr<UpdateAlgorithm> algorithm_;
  Evaluator evaluator_;
  std::optional<MetricsWriter> metrics_;          ///< rank 0's
  std::optional<TensorBoardWriter> tensorboard_;  ///< rank 0's
  Progress progress_;

  // The mean model and statistics as of the last evaluation.
  ParameterArena mean_model_;
  ParameterArena mean_statistics_;

  // The course of the run.
  Stopwatch wall_;
  StepRecord totals_;  ///< sums of the times; the other fields are unused
  std::int64_t steps_done_ = 0;
  std::optional<double> best_top1_;
  std::optional<double> final_top1_;
};

}  // namespace dcs3gd::app
