#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "app/checkpoint/checkpoint.h"
#include "app/checkpoint/checkpoint_writer.h"
#include "app/config/configuration.h"
#include "app/job/background_task.h"
#include "app/job/stop_signals.h"
#include "app/job/threads.h"
#include "app/model/datasets.h"
#include "app/model/evaluator.h"
#include "app/model/model.h"
#include "app/record/metrics.h"
#include "app/record/progress.h"
#include "app/record/run_folder.h"
#include "app/record/tensorboard_events.h"
#include "app/rules/update_algorithm.h"
#include "comm/communicator.h"
#include "core/optim/learning_rate.h"
#include "core/stopwatch.h"
#include "data/batch_loader.h"
#include "data/epoch_plan.h"

namespace dcs3gd::app {

/// What starts a run beside its configuration.
struct RunStart {
  ThreadPlan threads = {};
  nn::ConvolutionChoices convolutions = {};
  std::string command;                                       ///< the command line, for the record
  std::optional<Checkpoint> checkpoint = {};                 ///< to go on from; none: from the first step
  std::function<bool()> stop_wanted = [] { return false; };  ///< asked once a step: a rank that says true stops all
  StopSignals* signals = nullptr;                            ///< is told of each step; may be none
};

/// How a run ended.
enum class RunEnd {
  done,
  stopped,  ///< early, behind a checkpoint: it can be continued
};

/// One training run on this rank: steps, evaluations, checkpoints, and what is written to the run folder (by rank 0).
/// Not thread-safe.
class Trainer {
 public:
  /// Builds all that the run needs. Not collective, and writes nothing: what is wrong with data or weights is found
  /// here, and that the checkpoint is one of another run.
  Trainer(const Configuration& configuration, Datasets datasets, comm::Communicator& communicator,
          const RunFolder& folder, const RunStart& run_start);

  /// Equal on all ranks whose data sets hold the same.
  std::string data_fingerprint() const;

  /// Collective: from the first step, or the checkpoint's, to the last, with a final evaluation, checkpoint and model.
  /// The folder must have been claimed. Whatever ends the run before, stands in metrics.jsonl and summary.json before
  /// it is thrown on.
  RunEnd train();

 private:
  void start();
  void restore();
  void report_start();
  RunEnd run_steps();
  void finish();
  void watched(const std::function<void()>& task);
  RankWishes wishes() const;
  bool evaluation_is_due(std::int64_t step) const;
  bool checkpoint_is_due(std::int64_t step) const;
  void gather_mean_model();
  void evaluate();
  void settle_best_model();
  std::vector<CheckpointFile> files_to_save();
  CheckpointManifest checkpoint_manifest() const;
  void save_periodic_checkpoint();
  void settle_periodic_checkpoint();
  void save_last_checkpoint();
  void begin_checkpoint(CheckpointCopy* copy);
  void advance_checkpoint();
  void go_on_without(const std::function<void()>& saving);
  void save_model(const std::string& path) const;
  void write_start();
  void write_end(const std::string& status, int exit_code);
  void log_end(const EndEvent& event) const;
  void on_step(const StepRecord& record);
  void write(const Event& event);

  // What the run is made of; constant after construction.
  const Configuration& configuration_;
  comm::Communicator& communicator_;
  const RunFolder& folder_;
  const RunStart run_start_;

  // Working parts.
  const Datasets datasets_;
  const data::EpochPlan course_;
  const std::int64_t steps_;  ///< at which the run ends
  Model model_;
  data::BatchLoader loader_;
  optim::LearningRateSchedule schedule_;
  AlgorithmSurroundings surroundings_;
  std::unique_ptr<UpdateAlgorithm> algorithm_;
  Evaluator evaluator_;
  std::optional<MetricsWriter> metrics_;          ///< rank 0's
  std::optional<TensorBoardWriter> tensorboard_;  ///< rank 0's
  Progress progress_;

  // The mean model and statistics as of `gathered_at_`. The first weights are needed no more when there is one.
  ParameterArena& mean_model_;
  ParameterArena mean_statistics_;
  std::optional<std::int64_t> gathered_at_;  ///< steps done

  // Checkpoints, written while training goes on.
  std::optional<CheckpointCopy> checkpoint_copy_;  ///< of a run that saves on its way
  CheckpointEvent checkpoint_event_;               ///< of the one under way
  Stopwatch since_checkpoint_;                     ///< was begun
  CheckpointWriter checkpoint_writer_;

  // The course of the run.
  Stopwatch wall_;
  StepRecord totals_;                ///< sums of the times; the other fields are unused
  std::int64_t steps_done_ = 0;      ///< of the whole run
  std::int64_t steps_reported_ = 0;  ///< since the start or the checkpoint
  bool stop_agreed_ = false;
  bool checkpoint_agreed_ = false;
  std::optional<std::int64_t> checkpoint_at_;  ///< steps done
  std::optional<std::int64_t> evaluated_at_;   ///< steps done
  std::optional<double> best_top1_;
  std::optional<double> final_top1_;

  /// Rank 0's, from the mean model as it is. Last: uses all of the above.
  BackgroundTask best_model_task_{"dcs3gd-best"};
};

}  // namespace dcs3gd::app
