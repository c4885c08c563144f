#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "app/config/configuration.h"
#include "app/job/rank_report.h"
#include "app/model/model.h"
#include "app/report/rank_memory.h"

/// The table at the start of a run: what really is going to happen, in the order of the questions a reader has.
namespace dcs3gd::app {

struct ReportRow {
  std::string name;  ///< empty: goes on with the row above
  std::string value;
};

/// What a run adds to its configuration.
struct RunPlan {
  std::string command;
  std::string folder;
  std::string training_data;
  std::string evaluation_data;
  std::int64_t training_images = 0;
  std::int64_t steps_per_epoch = 0;  ///< 0: not known, the data are not here
  std::int64_t steps = 0;            ///< at which the run ends
  double peak_learning_rate = 0;
};

/// Program, folder, data, steps and learning rates of a run.
std::vector<ReportRow> run_rows(const Configuration& configuration, const RunPlan& plan);

/// Warns of a plan that is accepted and seldom meant, and of ranks that cannot compute at full speed.
void warn_of_start(const Configuration& configuration, const RunPlan& plan, const std::vector<RankUse>& ranks);

/// What makes no sense of steps and learning rates, in words: a peak that is never reached, epochs of hardly any step.
std::vector<std::string> plan_warnings(const Configuration& configuration, const RunPlan& plan);

/// Model, workers, algorithm, all-reduce, memory and ranks. `all_reduce` is what is used where the configuration leaves
/// the choice.
std::vector<ReportRow> plan_rows(const Configuration& configuration, const Model& model, std::string_view all_reduce,
                                 const RankMemory& memory, const std::vector<RankUse>& ranks);

/// Two columns, a line a row.
std::vector<std::string> format_rows(const std::vector<ReportRow>& rows);

/// Bytes of the array that a step averages by this algorithm, in the wire's format; 0 on a single rank. Of these a rank
/// sends 2(N−1)/N, and receives as many.
std::int64_t all_reduce_bytes(const Configuration& configuration, std::string_view algorithm, std::int64_t parameters,
                              int rank_count);

}  // namespace dcs3gd::app
