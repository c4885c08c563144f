#include "app/report/preflight.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <limits>
#include <system_error>
#include <unordered_map>
#include <utility>

#include "app/job/rank_report.h"
#include "app/record/progress.h"
#include "app/rules/table.h"
#include "core/format.h"

namespace dcs3gd::app {
namespace {

namespace fs = std::filesystem;

constexpr double kMegabyte = 1e6;
constexpr double kGigabyte = 1e9;

std::string megabytes(double bytes) { return format("{:.1f} MB", bytes / kMegabyte); }
std::string size_text(double bytes) {
  return bytes < kGigabyte ? megabytes(bytes) : format("{:.1f} GB", bytes / kGigabyte);
}

/// The ranks of each host together against what is free there.
void check_memory(const std::vector<RankNeed>& ranks, Preflight& result) {
  struct HostNeed {
    double needed = 0;
    double available = std::numeric_limits<double>::infinity();
    int ranks = 0;
  };
  std::vector<std::string> hosts;  // in the order of their ranks
  std::unordered_map<std::string, HostNeed> needs;
  for (const RankNeed& rank : ranks) {
    HostNeed& need = needs[rank.host];
    if (need.ranks++ == 0) hosts.push_back(rank.host);
    need.needed += static_cast<double>(rank.bytes);
    need.available = std::min(need.available, static_cast<double>(rank.available));
  }
  std::vector<std::string> rows;
  std::vector<std::string> warnings;
  for (const std::string& host : hosts) {
    const HostNeed& need = needs[host];
    rows.push_back(format("{} of {} free on {} ({})", size_text(need.needed), size_text(need.available), host,
                          counted(need.ranks, "rank")));
    if (need.needed <= need.available) continue;
    warnings.push_back(
        format("the ranks on {} need {} of memory and {} are free: lower algorithm.batch_per_worker, raise "
               "algorithm.micro_batches, or start fewer ranks there",
               host, size_text(need.needed), size_text(need.available)));
  }
  for (std::string& row : shortened(std::move(rows))) {
    result.rows.push_back({result.rows.empty() ? "memory needed" : "", std::move(row)});
  }
  std::ranges::move(shortened(std::move(warnings)), std::back_inserter(result.warnings));
}

void check_all_reduce(const Configuration& configuration, const PreflightFacts& facts, Preflight& result) {
  if (facts.all_reduce_bytes == 0) return;
  result.rows.push_back(
      {"all-reduce time", format("{:.1f} ms for {}; a step computes for {:.1f} ms", facts.all_reduce_ms,
                                 megabytes(static_cast<double>(facts.all_reduce_bytes)), facts.compute_ms)});
  if (facts.all_reduce_ms <= facts.compute_ms) return;
  const bool is_fp32 = configuration.comm.wire == comm::Wire::fp32;
  result.warnings.push_back(
      format("the all-reduce takes {:.1f} ms and a step computes for {:.1f} ms: the rest of it cannot be hidden; raise "
             "algorithm.batch_per_worker{}, or use a faster network",
             facts.all_reduce_ms, facts.compute_ms, is_fp32 ? ", set comm.wire: bf16" : ""));
}

/// All that are kept, the one that is being written, best and final model.
void check_disk(const Configuration& configuration, const PreflightFacts& facts, Preflight& result) {
  const int kept = configuration.checkpoint.keep + (configuration.checkpoint.is_periodic() ? 1 : 0);
  const auto each = static_cast<double>(facts.checkpoint_bytes);
  const double needed = kept * each + 2 * static_cast<double>(facts.model_bytes);
  const std::string& folder = configuration.run.output_dir;
  const auto free = static_cast<double>(facts.free_disk_bytes.value_or(0));
  result.rows.push_back({"disk needed", format("{}{} at {} (checkpoints: {} x {})", size_text(needed),
                                               facts.free_disk_bytes ? format(" of {} free", size_text(free)) : "",
                                               folder, kept, megabytes(each))});
  if (!facts.free_disk_bytes || needed <= free) return;
  result.warnings.push_back(
      format("the run needs {} of disk and {} are free at {}: lower checkpoint.keep, or choose "
             "another run.output_dir",
             size_text(needed), size_text(free), folder));
}

void check_time(const Configuration& configuration, const PreflightFacts& facts, Preflight& result) {
  const double step_ms = std::max(facts.compute_ms, facts.all_reduce_ms);
  if (facts.steps > 0) {
    result.rows.push_back(
        {"training time", format("about {} for {} of {:.1f} ms, evaluations and slow storage not counted",
                                 format_duration(1e-3 * step_ms * static_cast<double>(facts.steps)),
                                 counted(facts.steps, "step"), step_ms)});
  }
  if (!facts.time_limit_s) return;
  const auto fitting = static_cast<std::int64_t>(1e3 * std::max(0.0, *facts.time_limit_s) / std::max(step_ms, 1e-3));
  std::string text = format("{}: about {} steps of {:.1f} ms", format_duration(*facts.time_limit_s), fitting, step_ms);
  if (facts.steps_per_epoch > 0) {
    const double epochs = static_cast<double>(fitting) / static_cast<double>(facts.steps_per_epoch);
    text += epochs < static_cast<double>(configuration.run.epochs)
                ? format(", {:.1f} of {} epochs", epochs, configuration.run.epochs)
                : ", the whole run";
  }
  result.rows.push_back({"time limit", text});
  if (fitting > 0) return;
  result.warnings.push_back(
      "not a single step fits in the time limit: raise run.time_limit_minutes, or that of the job");
}

}  // namespace

Preflight preflight(const Configuration& configuration, const std::vector<RankNeed>& ranks,
                    const PreflightFacts& facts) {
  Preflight result;
  check_memory(ranks, result);
  check_all_reduce(configuration, facts, result);
  check_disk(configuration, facts, result);
  check_time(configuration, facts, result);
  return result;
}

std::vector<RankNeed> gather_needs(comm::Communicator& communicator, std::size_t bytes, std::size_t available) {
  struct Memory {
    std::size_t needed;
    std::size_t available;
  };
  std::vector<RankNeed> needs;
  for (const Memory& memory : communicator.gather(Memory{bytes, available})) {
    needs.push_back({communicator.places()[needs.size()].host, memory.needed, memory.available});
  }
  return needs;
}

std::optional<std::int64_t> free_disk_bytes(const std::string& folder) {
  std::error_code error;
  fs::path there = fs::absolute(folder, error);
  while (!fs::exists(there, error) && there.has_relative_path()) there = there.parent_path();
  const fs::space_info space = fs::space(there, error);
  return error ? std::nullopt : std::optional(static_cast<std::int64_t>(space.available));
}

std::int64_t checkpoint_bytes(const Configuration& configuration, const Model& model, int rank_count) {
  const auto parameters = static_cast<std::int64_t>(model.weights.layout().element_count());
  const auto statistics = static_cast<std::int64_t>(model.network.statistics_layout()->element_count());
  const bool saves_all = configuration.checkpoint.workers == CheckpointWorkers::all;
  const std::int64_t workers =
      saves_all ? std::int64_t{configuration.algorithm.workers_per_rank} * rank_count : std::int64_t{1};
  const ArrayCount arrays =
      find_rule(configuration.algorithm.name).arrays(configuration.algorithm, configuration.comm.wire);
  const std::int64_t saved = 1 + (configuration.model.ema_decay ? 1 : 0) +
                             static_cast<std::int64_t>(arrays.saved_shared) +
                             workers * static_cast<std::int64_t>(arrays.saved_per_worker) +
                             (saves_all ? rank_count : 0) * static_cast<std::int64_t>(arrays.saved_per_rank);
  const auto frozen = static_cast<std::int64_t>(model.frozen.values().size());
  return static_cast<std::int64_t>(sizeof(float)) * (saved * parameters + (1 + workers) * statistics + frozen);
}

}  // namespace dcs3gd::app
