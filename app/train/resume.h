#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "app/checkpoint/checkpoint.h"
#include "app/config/configuration.h"
#include "app/model/model_card.h"
#include "app/record/run_folder.h"
#include "comm/communicator.h"

namespace dcs3gd::app {

/// What happens with an earlier run of the same name.
enum class ResumeMode {
  automatic,  ///< continue it if it can be continued
  never,      ///< start anew
  path,       ///< continue from the checkpoint at `resume_path`
};

/// Collective: the checkpoint that a run in this folder goes on from; none if it starts at its beginning. Throws
/// Error{input} for a checkpoint that cannot be used, and for a folder that holds a finished model but no checkpoint.
std::optional<Checkpoint> find_checkpoint(comm::Communicator& communicator, const RunFolder& folder, ResumeMode mode,
                                          const std::string& path);

/// Throws Error{input} if `path`, of --resume PATH, is not within the folder: its own run's checkpoints would be lost.
void expect_own(const RunFolder& folder, const std::string& path);

/// The keys that count and whose values differ from those of the checkpoint, a line each: "\n  key: old -> new".
std::string changed_settings(const Checkpoint& checkpoint, const Configuration& configuration,
                             const std::function<bool(const std::string& key)>& counts);

/// Throws Error{input} if the configuration differs from that of the checkpoint in what makes the trajectory; lists
/// each such key with its old and new value.
void expect_continuable(const Checkpoint& checkpoint, const Configuration& configuration);

/// Throws Error{input} if the checkpoint's network is another one: model.file was edited since.
void expect_same_network(const Checkpoint& checkpoint, const ModelCard& card);

/// Throws Error{input} if another run's checkpoint is as far as this run is to go: nothing would be trained.
void expect_steps_left(const RunFolder& folder, const Checkpoint& checkpoint, const RunConfiguration& run);

/// Whether the checkpoint is one of the folder's own.
bool is_of(const RunFolder& folder, const Checkpoint& checkpoint);

/// Whether the folder's checkpoint is the end of the run as configured, and all that belongs to the end is there.
bool is_finished(const RunFolder& folder, const Checkpoint& checkpoint, const RunConfiguration& run);

}  // namespace dcs3gd::app
