#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "app/checkpoint/checkpoint_writer.h"
#include "app/config/configuration.h"
#include "app/record/run_record.h"
#include "app/train/best_model.h"
#include "comm/communicator.h"
#include "core/error.h"
#include "core/reminder.h"
#include "core/stopwatch.h"
#include "data/epoch_plan.h"

namespace dcs3gd::app {

/// Decides when a run saves its state, and carries it out: on the way from a copy, written while training goes on, at
/// the end from the arrays themselves. All ranks call the same members at the same steps. Not thread-safe.
class Checkpointer {
 public:
  /// `epoch_plan`, `best_model` and `record` are the run's and outlive this; `folder` is that of the checkpoints,
  /// `expect_held` as in CheckpointWriter.
  Checkpointer(comm::Communicator& communicator, const std::string& folder, const CheckpointConfiguration& when,
               const data::EpochPlan& epoch_plan, BestModel& best_model, RunRecord& record,
               std::function<void()> expect_held);

  /// Takes the memory for copies of this content, if the run saves on its way.
  void reserve(const CheckpointContent& content);
  /// Starts the clock that checkpoint.every_minutes goes by.
  void start_clock() {
    since_begin_.restart_s();
    since_saved_.restart_s();
  }

  // What a rank lets the others know with every step; they answer with requested() and advance().
  /// Whether time asks for a checkpoint. Clocks differ: rank 0's decides.
  bool is_overdue() const;
  /// Whether this rank is ready for advance().
  bool is_ready() const { return writer_.is_ready() && !best_model_.is_being_written(); }
  /// The ranks agreed that one is overdue.
  void requested() { requested_ = true; }

  /// Whether a checkpoint follows step `step`, which is not the last one.
  bool is_due(std::int64_t step) const;
  /// Whether one after `steps_done` steps is made on the way, and starts its clock. It is left out while its
  /// predecessor hangs in the storage, and for a while after others in a row have failed.
  bool begin(std::int64_t steps_done);
  /// Writes a copy of the content while training goes on. If that fails on all ranks, training goes on with the
  /// previous checkpoint and a warning.
  void write_copy(const CheckpointManifest& manifest, const CheckpointContent& content);
  /// Takes the checkpoint that is being written a stage further, with the same consequence; does not block if all ranks
  /// are ready.
  void advance();
  /// Whether so many have failed in a row that the run has to end: what it does cannot be saved. The same on all ranks.
  bool has_given_up() const { return has_given_up_; }

  /// Waits for the checkpoint that is being written.
  void finish() { finish(std::numeric_limits<double>::infinity()); }
  /// After finish(): starts the clock of the run's last one.
  void begin_last(std::int64_t steps_done);
  /// Writes the content itself and waits for it. What the storage refused, on all ranks: a run without its end has
  /// failed.
  std::optional<Error> write(const CheckpointManifest& manifest, const CheckpointContent& content);

  /// Steps done at the newest checkpoint of this run folder; none before the first.
  std::optional<std::int64_t> saved_at() const { return saved_at_; }
  void set_saved_at(std::int64_t steps_done) { saved_at_ = steps_done; }

 private:
  bool finish(double patience_s);
  void start_writing(const CheckpointManifest& manifest, std::vector<CheckpointFile> files);
  void next_stage();
  void note(const std::optional<Error>& failure);
  bool is_pausing() const;
  void warn_of(std::int64_t step, const std::string& reason) const;

  comm::Communicator& communicator_;
  const CheckpointConfiguration when_;
  const data::EpochPlan& epoch_plan_;
  BestModel& best_model_;
  RunRecord& record_;

  std::optional<CheckpointCopy> copy_;
  CheckpointEvent event_;  ///< of the checkpoint that is being written
  Stopwatch since_begin_;
  bool requested_ = false;
  // Failures in a row.
  int failures_ = 0;
  bool hangs_ = false;  ///< the one that is being written, longer than was waited for
  Reminder hang_reminder_;
  bool has_given_up_ = false;
  Stopwatch since_first_failure_;
  Stopwatch since_failure_;
  Stopwatch since_saved_;  ///< or since the start
  std::optional<std::int64_t> saved_at_;
  CheckpointWriter writer_;  ///< last: its thread reads the copy
};

}  // namespace dcs3gd::app
