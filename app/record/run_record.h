#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "app/record/metrics.h"
#include "app/record/mlflow_run.h"
#include "app/record/progress.h"
#include "app/record/run_folder.h"
#include "app/record/tensorboard_events.h"
#include "app/rules/update_rule.h"
#include "core/stopwatch.h"

namespace dcs3gd::app {

/// What is the same for all steps of a run.
struct RunRecordOptions {
  int rank = 0;
  int ranks = 1;
  std::int64_t images_per_step = 1;  ///< of all workers
  std::int64_t metrics_every_steps = 1;
  Progress::Options progress = {};
  Settings settings = {};                  ///< of the configuration, for experiment trackers
  std::optional<std::string> mlflow = {};  ///< as output.mlflow
};

/// What is known of a step beside its report.
struct StepContext {
  std::int64_t epoch = 0;       ///< 1-based
  double data_wait_ms = 0;      ///< until the loader had the step's batches
  std::int64_t bad_images = 0;  ///< that the loaders have passed over so far
};

/// The record of one run: metrics.jsonl, TensorBoard's file, MLflow's and summary.json, all written by rank 0, the
/// progress on the console, and the totals. Not thread-safe.
class RunRecord {
 public:
  RunRecord(const RunFolder& folder, const RunRecordOptions& options);

  /// Rank 0: opens the files and takes back what they say of steps after `step`. Throws Error{failure}.
  void open(std::int64_t step);
  /// Starts the clock of the run.
  void start_clock() { wall_.restart_s(); }
  void write(const Event& event);
  void write_step(const StepReport& report, const StepContext& context);
  /// Writes the end event, summary.json and a last line for people.
  void write_end(EndEvent event);

 private:
  void open_mlflow(const std::string& store, std::int64_t step);
  double share_hidden(double wait_ms, double all_reduce_ms) const;
  void log_end(const EndEvent& event) const;

  const RunFolder& folder_;
  const RunRecordOptions options_;
  std::optional<MetricsWriter> metrics_;          ///< rank 0's
  std::optional<TensorBoardWriter> tensorboard_;  ///< rank 0's
  std::optional<MlflowRun> mlflow_;               ///< rank 0's, if asked for
  Progress progress_;
  Stopwatch wall_;
  StepReport totals_;       ///< sums of the times; the other fields are unused
  std::int64_t steps_ = 0;  ///< in the totals
};

}  // namespace dcs3gd::app
