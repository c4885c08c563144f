#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "app/checkpoint/checkpoint_manifest.h"
#include "app/job/background_task.h"
#include "app/model/safetensors.h"
#include "app/rules/update_rule.h"
#include "comm/communicator.h"
#include "core/parameter_arena.h"

namespace dcs3gd::app {

/// What a checkpoint is made of, on this rank.
struct CheckpointContent {
  const ParameterArena& mean_model;
  const ParameterArena& mean_statistics;
  const ParameterArena& local_statistics;
  const ParameterArena& frozen;  ///< the rest of the model, which never changes
  RuleState state;
  std::map<std::string, std::string> model_metadata;  ///< the model's card
  const ParameterArena* average = nullptr;            ///< of the weights over steps; may be none
  bool is_of_mean_worker = false;                     ///< one worker, the mean of all, in place of them
};

/// One file of a checkpoint.
struct CheckpointFile {
  std::string name;
  std::vector<ArenaPart<const ParameterArena>> arrays;  ///< unchanged while it is written
  std::map<std::string, std::string> metadata = {};
  std::vector<ArenaPart<const ParameterArena>> constants = {};  ///< arrays that never change, and need no copy
};

/// The files that this rank writes: its workers', and on rank 0 what is the same on all ranks.
std::vector<CheckpointFile> checkpoint_files(int rank, const CheckpointContent& content);

/// A copy of all arrays, so that training can go on while they are written. Its memory is taken once.
class CheckpointCopy {
 public:
  /// With room for these files, or others of the same arrays.
  explicit CheckpointCopy(const std::vector<CheckpointFile>& files);

  /// The same files, of the arrays as they are now: until the next take().
  std::vector<CheckpointFile> take(std::vector<CheckpointFile> files);

 private:
  std::vector<ParameterArena> arrays_;
};

/// Writes checkpoints, one at a time, in a thread of its own, in two stages that all ranks pass together:
///
///   begin    all ranks: files, fsync, rename in `<folder>/step-….tmp`
///   advance  all files are durable: rank 0 writes the manifest, gives the folder its name, removes all but the newest
///   advance  there it is
///
/// All ranks call begin() and advance() at the same points of the program. advance() waits where it must, without a
/// sign of life; it does not after wait(), nor when every rank has said is_ready(), which the ranks let each other know
/// by the numbers that travel with a step.
class CheckpointWriter {
 public:
  /// All but the newest `keep` are removed. `expect_held` throws if the folder has become another process's; rank 0
  /// asks before each change in it, in the thread that makes it.
  CheckpointWriter(
      comm::Communicator& communicator, std::string folder, int keep, std::function<void()> expect_held = [] {});

  /// Collective, when none is being written. The arrays must stay as they are until is_writing() is false again.
  /// The manifest's list of files is filled in here. Throws Error{failure} with ErrorScope::all_ranks.
  void begin(CheckpointManifest manifest, std::vector<CheckpointFile> files);
  /// The same on all ranks.
  bool is_writing() const { return stage_ != Stage::none; }
  /// Collective: waits until all ranks are ready for advance(); false if that takes longer (all_done()).
  bool wait(double patience_s) const;
  /// Whether one is being written and this rank has nothing left to do in its stage.
  bool is_ready() const { return is_writing() && !task_.is_running(); }
  /// Collective: ends the stage of the checkpoint that is being written; whether that was the last one. Throws
  /// Error{failure} with ErrorScope::all_ranks if a rank could not write: it is given up, and what was there before is
  /// as it was.
  bool advance();
  /// The best model's file, for the manifest of the checkpoint that is being written.
  void set_best(std::optional<double> top1, const std::optional<FileDigest>& file) {
    manifest_.best_top1 = top1;
    manifest_.best_file = file;
  }

 private:
  enum class Stage { none, files, manifest };

  void write_files(const std::vector<CheckpointFile>& files);
  void publish();

  comm::Communicator& communicator_;
  const std::string folder_;
  const int keep_;
  const std::function<void()> expect_held_;

  Stage stage_ = Stage::none;
  std::string path_;       ///< of the checkpoint that is being written
  std::string temporary_;  ///< until it is whole
  // While the task runs it has these.
  CheckpointManifest manifest_;
  std::map<std::string, FileDigest> own_files_;
  BackgroundTask task_;  ///< last: uses all of the above
};

}  // namespace dcs3gd::app
