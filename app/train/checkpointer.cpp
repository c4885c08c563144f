#include "app/train/checkpointer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "app/checkpoint/checkpoint_files.h"
#include "app/job/agreement.h"
#include "app/record/progress.h"
#include "core/error.h"
#include "core/format.h"
#include "core/log.h"
#include "core/trace.h"
#include "core/vector_math.h"

namespace dcs3gd::app {
namespace {

constexpr double kPatience_s = 10;  // with a predecessor, before the next checkpoint is left out
// A run ends when this many checkpoints in a row have failed, or some of them for so long. The pauses between them, 1,
// 2, 4 … s, give the storage a minute at least.
constexpr int kMostFailures = 8;
constexpr int kSomeFailures = 3;
constexpr double kLongFailing_s = 3600;
constexpr double kLongestPause_s = 60;

}  // namespace

Checkpointer::Checkpointer(comm::Communicator& communicator, const std::string& folder,
                           const CheckpointConfiguration& when, const data::EpochPlan& epoch_plan,
                           BestModel& best_model, RunRecord& record, std::function<void()> expect_held)
    : communicator_(communicator),
      when_(when),
      epoch_plan_(epoch_plan),
      best_model_(best_model),
      record_(record),
      writer_(communicator, folder, when.keep, std::move(expect_held)) {}

void Checkpointer::reserve(const CheckpointContent& content) {
  if (when_.is_periodic()) copy_.emplace(checkpoint_files(communicator_.rank(), content));
}

bool Checkpointer::is_overdue() const {
  return communicator_.rank() == 0 && when_.every_minutes && since_begin_.elapsed_s() >= 60 * *when_.every_minutes;
}

bool Checkpointer::is_due(std::int64_t step) const {
  return requested_ || (when_.every_steps && (step + 1) % *when_.every_steps == 0) ||
         (when_.every_epochs && epoch_plan_.ends_epoch(step) &&
          epoch_plan_.epochs_begun(step + 1) % *when_.every_epochs == 0);
}

bool Checkpointer::begin(std::int64_t steps_done) {
  requested_ = false;
  if (!finish(hangs_ ? 0 : kPatience_s)) {
    hangs_ = true;
    if (hang_reminder_.is_due(since_begin_.elapsed_s(), 0)) {
      warn_of(steps_done, format("that of step {} is being written since {}; no other is begun before", event_.step,
                                 format_duration(since_begin_.elapsed_s())));
    }
    return false;
  }
  if (has_given_up_ || is_pausing()) return false;
  begin_last(steps_done);
  return true;
}

void Checkpointer::begin_last(std::int64_t steps_done) {
  since_begin_.restart_s();
  event_ = {.step = steps_done,
            .epoch = epoch_plan_.epochs_begun(steps_done),
            .path = "checkpoints/" + checkpoint_name(steps_done)};
}

void Checkpointer::write_copy(const CheckpointManifest& manifest, const CheckpointContent& content) {
  std::vector<CheckpointFile> files = copy_->take(checkpoint_files(communicator_.rank(), content));
  note(failure_of_all([&] { start_writing(manifest, std::move(files)); }));
}

std::optional<Error> Checkpointer::write(const CheckpointManifest& manifest, const CheckpointContent& content) {
  return failure_of_all([&] {
    start_writing(manifest, checkpoint_files(communicator_.rank(), content));
    while (writer_.is_writing()) {
      writer_.wait(std::numeric_limits<double>::infinity());
      next_stage();
    }
  });
}

void Checkpointer::start_writing(const CheckpointManifest& manifest, std::vector<CheckpointFile> files) {
  const trace::Span span("compute", "checkpoint");
  writer_.begin(manifest, std::move(files));
  event_.stall_s = since_begin_.elapsed_s();
}

void Checkpointer::advance() {
  if (!writer_.wait(0)) return;  // what a step told may be of a stage that finish() has ended since
  note(failure_of_all([&] { next_stage(); }));
}

void Checkpointer::next_stage() {
  const trace::Span span("compute", "checkpoint");
  const Stopwatch watch;
  best_model_.wait(communicator_);  // no checkpoint knows a best accuracy whose model is not there
  writer_.set_best(best_model_.top1(), best_model_.file());
  const bool is_there = writer_.advance();
  event_.stall_s += watch.elapsed_s();
  if (!is_there) return;
  event_.wall_s = since_begin_.elapsed_s();
  saved_at_ = event_.step;
  failures_ = 0;
  since_saved_.restart_s();
  record_.write(event_);
}

bool Checkpointer::finish(double patience_s) {
  while (writer_.is_writing()) {
    if (!writer_.wait(patience_s)) return false;
    advance();
  }
  return true;
}

/// After a stage of a checkpoint on the way.
void Checkpointer::note(const std::optional<Error>& failure) {
  hangs_ = false;
  hang_reminder_ = {};
  if (!failure) return;
  if (failures_++ == 0) since_first_failure_.restart_s();
  since_failure_.restart_s();
  const bool is_enough =
      failures_ >= kMostFailures || (failures_ >= kSomeFailures && since_first_failure_.elapsed_s() >= kLongFailing_s);
  has_given_up_ = !communicator_.from_rank_0(is_enough ? "enough" : "").empty();  // clocks differ
  // Of many in a row the first, second, fourth … are told.
  if (has_given_up_ || std::has_single_bit(static_cast<unsigned>(failures_))) warn_of(event_.step, failure->what());
}

/// Whether it is too early to try again after failures. Collective.
bool Checkpointer::is_pausing() const {
  if (failures_ < 2) return false;
  const bool mine = since_failure_.elapsed_s() < std::min(std::exp2(failures_ - 2), kLongestPause_s);
  return !communicator_.from_rank_0(mine ? "pause" : "").empty();
}

void Checkpointer::warn_of(std::int64_t step, const std::string& reason) const {
  if (communicator_.rank() != 0) return;
  const std::string consequence =
      has_given_up_
          ? format("{} in a row have failed, so the run ends", failures_)
          : format("training goes on, with {:.1f} hours of it at risk ({} since {})", since_saved_.elapsed_s() / 3600,
                   format_duration(since_saved_.elapsed_s()), saved_at_ ? "the last one" : "the start");
  log::warn(format("no checkpoint of step {}: {}; {}", step, reason, consequence));
}

}  // namespace dcs3gd::app
