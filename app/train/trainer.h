#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "app/checkpoint/checkpoint.h"
#include "app/config/configuration.h"
#include "app/job/stop_signals.h"
#include "app/job/threads.h"
#include "app/model/datasets.h"
#include "app/model/evaluator.h"
#include "app/model/model.h"
#include "app/model/model_card.h"
#include "app/record/run_folder.h"
#include "app/record/run_record.h"
#include "app/rules/update_rule.h"
#include "app/train/best_model.h"
#include "app/train/checkpointer.h"
#include "app/train/early_stopping.h"
#include "app/train/replica_guard.h"
#include "app/train/slowdown.h"
#include "comm/communicator.h"
#include "core/optim/learning_rate.h"
#include "data/batch_loader.h"
#include "data/epoch_plan.h"

namespace dcs3gd::app {

/// What starts a run beside its configuration.
struct RunStart {
  ModelCard card;  ///< of the model; the names of the classes come from the data
  ThreadPlan threads = {};
  nn::ConvolutionChoices convolutions = {};
  std::string command;                                       ///< the command line, for the record
  std::optional<Checkpoint> checkpoint = {};                 ///< to continue from; none: from the first step
  std::function<bool()> stop_wanted = [] { return false; };  ///< asked once a step: a rank that says true stops all
  StopSignals* signals = nullptr;                            ///< is told of each step; may be none
};

/// How a run ended.
enum class RunEnd {
  done,
  stopped,  ///< early, after a checkpoint: it can be continued
};

/// One training run on this rank: steps, evaluations, checkpoints. Not thread-safe.
class Trainer {
 public:
  /// Builds all that the run needs. Not collective, and writes nothing: what is wrong with data or weights is found
  /// here, and that the checkpoint is one of another run.
  Trainer(const Configuration& configuration, Datasets datasets, comm::Communicator& communicator,
          const RunFolder& folder, const RunStart& run_start);

  /// Equal on all ranks whose data sets hold the same.
  std::string data_fingerprint() const;

  /// Collective. Trains from the first step, or from the checkpoint's, to the last; then evaluates and writes the last
  /// checkpoint and the final model. `claim` is the right to write to the run folder: rank 0 has it, the others give
  /// none. If another process takes the folder over, the run ends with Error{failure} and leaves the folder alone. Any
  /// other error is written to metrics.jsonl and summary.json as the end of the run, then thrown on.
  RunEnd train(RunFolderClaim* claim = nullptr);

 private:
  RunEnd run_steps();
  void take_step(std::int64_t step);
  void average_weights(std::int64_t step);
  double learning_rate(std::int64_t step) const;
  Tail tail();
  void heed(const StepReport& report);
  void record(const StepReport& report);
  void record_received();
  void warn_of_slowdown(const StepReport& report);
  void timed_by_signals(const std::function<void()>& task);
  void finish();
  void expect_same_mean_model(const std::string& seen);

  bool evaluation_is_due(std::int64_t step) const;
  void evaluate();
  void gather_mean_model();
  const ParameterArena& evaluated_model() const { return gathered_average_ ? *gathered_average_ : mean_model_; }
  FileDigest save_model(const std::string& path) const;
  void save_final_model();

  void save_periodic_checkpoint();
  void save_last_checkpoint();
  CheckpointContent checkpoint_content();
  CheckpointManifest checkpoint_manifest() const;

  void start();
  std::int64_t first_step_of(double epoch) const;
  RuleOptions planned_rule_options();
  void restore();
  void show(const nn::BatchView& batch);
  void restore_best_model();
  bool is_folder_taken() const { return claim_ != nullptr && !claim_->taken_by().empty(); }
  void expect_claim();
  void report_start();
  void write_start();
  void write_end(const std::string& status, int exit_code);

  // What the run is made of; constant after construction.
  const Configuration& configuration_;
  comm::Communicator& communicator_;
  const RunFolder& folder_;
  const RunStart run_start_;
  const Datasets datasets_;
  const data::EpochPlan epoch_plan_;
  const std::int64_t steps_;         ///< at which the run ends
  RunFolderClaim* claim_ = nullptr;  ///< rank 0's

  // Working parts.
  const ModelCard card_;
  Model model_;
  data::BatchLoader loader_;
  const BatchSource next_batch_;
  optim::LearningRateSchedule schedule_;
  Evaluator evaluator_;
  RunRecord record_;
  std::unique_ptr<UpdateRule> rule_;  ///< from start() on
  ReplicaGuard replica_guard_;

  // The mean model and statistics as of `gathered_at_`. The first weights are not needed once there is one.
  ParameterArena& mean_model_;
  ParameterArena mean_statistics_;
  std::optional<ParameterArena> average_;           ///< of the mean model over steps, with model.ema_decay
  std::optional<ParameterArena> gathered_average_;  ///< as of `gathered_at_`: what is evaluated and written
  std::optional<std::int64_t> gathered_at_;         ///< steps done

  // Where the run stands.
  std::optional<StepReport> received_;  ///< that is not recorded yet
  std::int64_t steps_done_ = 0;         ///< of the whole run
  double last_compute_ms_ = 0;
  bool stop_agreed_ = false;
  bool has_shown_batch_ = false;
  Slowdown slowdown_;
  std::optional<std::int64_t> evaluated_at_;  ///< steps done
  std::optional<double> final_top1_;
  EarlyStopping early_stopping_;

  // Last: their threads read the mean model.
  BestModel best_model_;
  Checkpointer checkpointer_;
};

}  // namespace dcs3gd::app
