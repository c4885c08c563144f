#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "app/config/configuration.h"
#include "app/model/model.h"
#include "app/report/start_report.h"
#include "comm/communicator.h"

/// Whether a run fits its machines: what costs hours when it is found out later.
namespace dcs3gd::app {

/// What is to be known of a rank beforehand.
struct RankNeed {
  std::string host;
  std::size_t bytes = 0;      ///< to come
  std::size_t available = 0;  ///< available_bytes() before anything was planned
};

/// What was measured, and what the run is to do.
struct PreflightFacts {
  double compute_ms = 0;     ///< of a step, on the slowest rank
  double all_reduce_ms = 0;  ///< with nothing computed beside; 0 on one rank
  std::int64_t all_reduce_bytes = 0;
  std::int64_t checkpoint_bytes = 0;
  std::int64_t model_bytes = 0;
  std::optional<std::int64_t> free_disk_bytes;  ///< where the run folder is going to be; none: the system does not tell
  std::optional<double> time_limit_s;
  std::int64_t steps_per_epoch = 0;  ///< 0 where the data are not
  std::int64_t steps = 0;            ///< of the whole run
};

/// Rows for people, and what to do where something does not fit.
struct Preflight {
  std::vector<ReportRow> rows;
  std::vector<std::string> warnings;
};

/// Everything, for the ranks' needs by rank.
Preflight preflight(const Configuration& configuration, const std::vector<RankNeed>& ranks,
                    const PreflightFacts& facts);

/// Collective: every rank's need, by rank.
std::vector<RankNeed> gather_needs(comm::Communicator& communicator, std::size_t bytes, std::size_t available);

/// What is free on the file system that a folder is going to be on; none if the system does not tell.
std::optional<std::int64_t> free_disk_bytes(const std::string& folder);

/// Of a checkpoint on all ranks together.
std::int64_t checkpoint_bytes(const Configuration& configuration, const Model& model, int rank_count);

}  // namespace dcs3gd::app
