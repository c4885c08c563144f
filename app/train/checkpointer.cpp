#include "app/train/checkpointer.h"

#include <cmath>
#include <utility>

#include "app/checkpoint/checkpoint_files.h"
#include "core/error.h"
#include "core/format.h"
#include "core/log.h"
#include "core/trace.h"
#include "core/vector_math.h"

namespace dcs3gd::app {

Checkpointer::Checkpointer(comm::Communicator& communicator, const std::string& folder,
                           const CheckpointConfiguration& when, const data::EpochPlan& epoch_plan,
                           BestModel& best_model, RunRecord& record)
    : communicator_(communicator),
      when_(when),
      epoch_plan_(epoch_plan),
      best_model_(best_model),
      record_(record),
      writer_(communicator, folder, when.keep) {}

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

void Checkpointer::begin(std::int64_t steps_done) {
  finish();
  requested_ = false;
  since_begin_.restart_s();
  event_ = {.step = steps_done,
            .epoch = epoch_plan_.epochs_begun(steps_done),
            .path = "checkpoints/" + checkpoint_name(steps_done)};
}

void Checkpointer::write_copy(const CheckpointManifest& manifest, const CheckpointContent& content) {
  or_warn([&] { start_writing(manifest, copy_->take(checkpoint_files(communicator_.rank(), content))); });
}

void Checkpointer::write(const CheckpointManifest& manifest, const CheckpointContent& content) {
  start_writing(manifest, checkpoint_files(communicator_.rank(), content));
  while (writer_.is_writing()) advance();
}

void Checkpointer::start_writing(const CheckpointManifest& manifest, std::vector<CheckpointFile> files) {
  const trace::Span span("compute", "checkpoint");
  writer_.begin(manifest, std::move(files));
  event_.stall_s = since_begin_.elapsed_s();
}

void Checkpointer::advance_or_warn() {
  or_warn([&] { advance(); });
}

void Checkpointer::advance() {
  const trace::Span span("compute", "checkpoint");
  const Stopwatch watch;
  best_model_.wait();  // no checkpoint knows a best accuracy whose model is not there
  const bool is_there = writer_.advance();
  event_.stall_s += watch.elapsed_s();
  if (!is_there) return;
  event_.wall_s = since_begin_.elapsed_s();
  saved_at_ = event_.step;
  record_.write(event_);
}

void Checkpointer::finish() {
  while (writer_.is_writing()) advance_or_warn();
}

/// Runs `saving`; if it fails on all ranks, warns and goes on training with the previous checkpoint.
void Checkpointer::or_warn(const std::function<void()>& saving) {
  try {
    saving();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::failure || error.scope() != ErrorScope::all_ranks) throw;
    if (communicator_.rank() == 0) {
      log::warn(format("no checkpoint of step {}: {}; training goes on", event_.step, error.what()));
    }
  }
}

}  // namespace dcs3gd::app
