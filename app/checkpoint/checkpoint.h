#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "app/checkpoint/checkpoint_manifest.h"
#include "app/rules/running_statistics.h"
#include "app/rules/update_rule.h"
#include "comm/communicator.h"

/// Checkpoints: folders that appear whole or not at all, and whose checksums reveal damage.
///
///   checkpoints/step-00001234/
///     model.safetensors     the mean model and the average running statistics, for any program
///     shared.state          what is the same on all workers: m, without the updates in flight
///     worker-00003.state    a worker's own: update, running statistics
///     rank-00003.state      a rank's own, if it has any: what a narrow wire has lost
///                           (checkpoint.workers: average: of one worker, the mean of all, and of no rank)
///     manifest.json         written last: sizes and checksums of the others, and what they are a state of
///
/// All are safetensors but the manifest. The folder has to be on a file system that all ranks see. This is how they are
/// found, checked and restored; checkpoint_writer.h is how they come to be.
namespace dcs3gd::app {

/// A checkpoint on disk that was found whole.
struct Checkpoint {
  std::string path;
  CheckpointManifest manifest;

  std::string model() const { return path + "/model.safetensors"; }
  /// Whether a run with this many workers goes on exactly as it would have.
  bool is_exact_for(int workers) const { return workers == manifest.workers() && manifest.format > 1; }
};

/// Whether the file is the one that this digest was made of.
bool is_intact(const std::string& path, const FileDigest& digest);

/// Collective: the newest checkpoint of the folder whose files are all as they were written; none if there is no
/// checkpoint at all. Each damaged one is named in a warning. Throws Error{input} if none is whole.
std::optional<Checkpoint> find_newest_checkpoint(comm::Communicator& communicator, const std::string& folder);

/// Collective: the checkpoint at exactly this path. Throws Error{input} if it is not there or not whole.
Checkpoint open_checkpoint(comm::Communicator& communicator, const std::string& path);

/// Renames a file or folder to `<path>.1`, or the first number that is free, and returns that name. Not collective.
std::string set_aside(const std::string& path);

/// Renames the checkpoints after `step` to `<name>.1`, or the first number that is free: damaged ones, and newer ones
/// that this run abandons. Not collective.
void set_aside_later_checkpoints(const std::string& folder, std::int64_t step);

/// Collective, with the rule freshly made at the checkpoint's mean model and the statistics its average. With as many
/// workers as saved it: their states, on whatever ranks they are; an exact continuation if they are on the same. Else
/// each array of the state says what becomes of it (OnResize). A checkpoint of format 1 continues in the same way, from
/// velocities that become updates at `last_learning_rate`, that of the step before. Throws Error with
/// ErrorScope::all_ranks.
void restore_checkpoint(comm::Communicator& communicator, const Checkpoint& checkpoint, UpdateRule& rule,
                        RunningStatistics& statistics, double last_learning_rate);

}  // namespace dcs3gd::app
