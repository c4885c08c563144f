#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "app/config/configuration.h"
#include "app/record/metrics.h"
#include "app/record/run_folder.h"
#include "core/files.h"

namespace dcs3gd::app {

/// A run in MLflow's file store, which `mlflow ui --backend-store-uri FOLDER` shows: in experiment 0, "Default",
///
///     FOLDER/0/meta.yaml                     the experiment; made if it is not there
///     FOLDER/0/RUN/params/KEY                every key of the configuration
///     FOLDER/0/RUN/metrics/train/loss …      "milliseconds value step", a line for each of the run's scalars
///     (scalars.h) FOLDER/0/RUN/tags/mlflow.runName … FOLDER/0/RUN/meta.yaml                 status and times
///
/// RUN is chosen at the first start and kept in the run folder: a run that continues goes on with it, and what was said
/// of later steps is taken back. Until meta.yaml, which is written last, is there MLflow passes over the run. Not
/// thread-safe.
class MlflowRun {
 public:
  /// `step`: what the run continues from. Throws Error{failure} if the store cannot be written to.
  MlflowRun(const std::string& store, const RunFolder& run, const Settings& settings, std::int64_t step);

  /// Where the store fails numbers are lost, with a warning, and the run goes on.
  void write(const Event& event);

 private:
  /// The numbers of MLflow's RunStatus.
  enum class Status { running = 1, finished = 3, failed = 4, killed = 5 };

  void record(const Event& event);
  void write_tags(const StartEvent& event) const;
  void write_meta(Status status) const;
  void append(const std::string& metric, double value);

  std::filesystem::path experiment_;
  std::string name_;
  std::string id_;
  std::int64_t started_ms_ = 0;  ///< since 1970
  std::filesystem::path folder_;
  std::map<std::string, AppendedFile> metrics_;
  bool is_broken_ = false;
  std::int64_t step_ = 0;  ///< of the last event that had one
};

}  // namespace dcs3gd::app
