#include "app/train/trainer.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iterator>
#include <limits>
#include <sstream>
#include <utility>

#include "app/checkpoint/checkpoint_files.h"
#include "app/job/agreement.h"
#include "app/job/exit_code.h"
#include "app/model/safetensors.h"
#include "app/record/trace_file.h"
#include "app/report/start_report.h"
#include "app/train/resume.h"
#include "core/error.h"
#include "core/format.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/trace.h"
#include "core/vector_math.h"
#include "core/version.h"
#include "nn/onednn/cpu.h"

namespace dcs3gd::app {
namespace {

/// The configuration of a model that starts at the checkpoint.
Configuration with_weights_of(const std::optional<Checkpoint>& checkpoint, Configuration configuration) {
  if (checkpoint) {
    configuration.model.init = checkpoint->model();
    configuration.model.init_skip.clear();
  }
  return configuration;
}

data::SamplePlan training_plan(const Configuration& configuration, const comm::Communicator& communicator,
                               const data::Position& start) {
  const AlgorithmConfiguration& algorithm = configuration.algorithm;
  return {.part = data::Part::train,
          .seed = configuration.run.seed,
          .rank = communicator.rank(),
          .workers_per_rank = algorithm.workers_per_rank,
          .workers = algorithm.workers_per_rank * communicator.size(),
          .batch_per_worker = algorithm.batch_per_worker,
          .start_epoch = start.epoch,
          .epochs = configuration.run.epochs,
          .start_sample = start.images};
}

std::int64_t global_batch(const Configuration& configuration, const comm::Communicator& communicator) {
  return std::int64_t{configuration.algorithm.batch_per_worker} * configuration.algorithm.workers_per_rank *
         communicator.size();
}

data::EpochPlan course_of(const Configuration& configuration, const comm::Communicator& communicator,
                          const RunStart& run_start, const data::Dataset& dataset) {
  const data::Position start = run_start.checkpoint ? run_start.checkpoint->manifest.position : data::Position();
  return {start, dataset.size(), global_batch(configuration, communicator), configuration.run.epochs};
}

nn::BatchView view_of(const data::Batch& batch) {
  return {.images = batch.images.data(),
          .labels = batch.labels.data(),
          .count = batch.count,
          .other_labels = batch.other_labels.empty() ? nullptr : batch.other_labels.data(),
          .label_share = batch.label_share};
}

/// 1 − wait / all_reduce; NaN, which is null in the metrics, where nothing travelled.
double share_hidden(const comm::Communicator& communicator, double wait_ms, double all_reduce_ms) {
  if (communicator.size() == 1 || all_reduce_ms == 0) return std::numeric_limits<double>::quiet_NaN();
  return std::max(0.0, 1 - wait_ms / all_reduce_ms);
}

}  // namespace

Trainer::Trainer(const Configuration& configuration, Datasets datasets, comm::Communicator& communicator,
                 const RunFolder& folder, const RunStart& run_start)
    : configuration_(configuration),
      communicator_(communicator),
      folder_(folder),
      run_start_(run_start),
      datasets_(std::move(datasets)),
      course_(course_of(configuration, communicator, run_start, *datasets_.train)),
      steps_(std::min(course_.end(), configuration.run.max_steps.value_or(std::numeric_limits<std::int64_t>::max()))),
      model_(with_weights_of(run_start.checkpoint, configuration), run_start.convolutions, communicator.rank()),
      loader_(datasets_.train, configuration.data, training_plan(configuration, communicator, course_.start()),
              data::loader_thread_count(configuration.data.loader.threads, run_start.threads.spare)),
      schedule_(configuration.optimizer.lr, configuration.run.epochs, course_.steps_per_epoch(),
                global_batch(configuration, communicator)),
      surroundings_{.communicator = communicator,
                    .network = model_.network,
                    .running_statistics = model_.statistics,
                    .algorithm = configuration.algorithm,
                    .sgd = configuration.optimizer.sgd,
                    .wire = configuration.comm.wire,
                    .loss_limit = configuration.run.loss_limit,
                    .next_batch = [this] { return view_of(*loader_.next()); },
                    .on_step = [this](const StepRecord& record) { on_step(record); },
                    .wishes = [this] { return wishes(); }},
      evaluator_(communicator, model_.network, datasets_.eval, configuration.data,
                 data::loader_thread_count(configuration.data.loader.threads, run_start.threads.spare)),
      progress_({.style = communicator.rank() == 0 ? resolve_progress_style(configuration.output.progress)
                                                   : ProgressStyle::none,
                 .epochs = configuration.run.epochs,
                 .steps_per_epoch = course_.steps_per_epoch(),
                 .steps = steps_}),
      mean_model_(model_.weights),
      mean_statistics_(model_.network.statistics_layout()),
      checkpoint_writer_(communicator, folder.checkpoints(), configuration.checkpoint.keep),
      steps_done_(course_.start().step) {
  if (!run_start.checkpoint) return;
  const CheckpointManifest& manifest = run_start.checkpoint->manifest;
  if (manifest.data_fingerprint != data_fingerprint()) {
    throw Error(ErrorKind::input,
                format("{} cannot be continued with other data; it was trained on\n{}\nand this is\n{}",
                       run_start.checkpoint->path, manifest.data_fingerprint, data_fingerprint()));
  }
  if (is_of(folder, *run_start.checkpoint)) checkpoint_at_ = manifest.position.step;
  evaluated_at_ = manifest.evaluated_at_step;
  best_top1_ = manifest.best_top1;
  final_top1_ = manifest.final_top1;
}

RunEnd Trainer::train() {
  start();
  RunEnd end = RunEnd::done;
  try {
    end = run_steps();
  } catch (const Error& error) {
    // With all ranks here, what is being saved comes to its end.
    if (error.extent() == Extent::all_ranks) settle_periodic_checkpoint();
    write_end(error.kind() == ErrorKind::diverged ? "diverged" : "failed", error.exit_code());
    throw;
  }
  if (configuration_.output.trace) write_trace(communicator_, folder_.trace());
  if (end == RunEnd::done) {
    write_end("done", 0);
  } else {
    write_end("stopped", kExitStopped);
  }
  return end;
}

std::string Trainer::data_fingerprint() const {
  return format("training {}\nevaluation {}", datasets_.train->fingerprint(), datasets_.eval->fingerprint());
}

void Trainer::start() {
  if (configuration_.output.trace) trace::start();
  report_start();
  model_.broadcast(communicator_);
  algorithm_ = make_update_algorithm(surroundings_, model_.weights.copy());
  if (run_start_.checkpoint) restore();
  agree(communicator_, [&] {
    if (configuration_.checkpoint.is_periodic()) checkpoint_copy_.emplace(files_to_save());
    if (communicator_.rank() != 0) return;
    rewind_metrics(folder_.metrics(), steps_done_);
    metrics_.emplace(folder_.metrics());
    tensorboard_.emplace(folder_.path());
    // What is there is of a run that has not ended, from now on.
    std::filesystem::remove(folder_.summary());
  });
  write_start();
  wall_.restart_s();
  since_checkpoint_.restart_s();
}

void Trainer::restore() {
  const Checkpoint& checkpoint = *run_start_.checkpoint;
  const CheckpointManifest& manifest = checkpoint.manifest;
  agree(communicator_, [&] {
    if (communicator_.rank() == 0) set_aside_later_checkpoints(folder_.checkpoints(), steps_done_);
  });
  restore_checkpoint(communicator_, checkpoint, *algorithm_, model_.statistics);
  if (communicator_.rank() != 0) return;
  const int workers = communicator_.size() * configuration_.algorithm.workers_per_rank;
  std::string how = "exactly";
  if (workers != manifest.workers()) {
    how = format("with {} workers instead of {}: from the mean model and the average velocity", workers,
                 manifest.workers());
  } else if (communicator_.size() != manifest.ranks) {
    how = format("on {} ranks instead of {}: exactly but for the order of sums", communicator_.size(), manifest.ranks);
  } else if (run_start_.threads.compute != manifest.threads || nn::instruction_set() != manifest.isa) {
    how = format("with {} threads and {} instead of {} and {}: exactly but for rounding", run_start_.threads.compute,
                 nn::instruction_set(), manifest.threads, manifest.isa);
  }
  log::info(format("continuing from {} (step {}), {}", checkpoint.path, steps_done_, how));
}

/// What is going to happen, on rank 0's log.
void Trainer::report_start() {
  const std::vector<RankUse> ranks = gather_rank_uses(communicator_, run_start_.threads.compute);
  if (communicator_.rank() != 0) return;
  std::vector<ReportRow> rows = run_rows(configuration_, {.command = run_start_.command,
                                                          .folder = folder_.path(),
                                                          .training_data = datasets_.train->description(),
                                                          .evaluation_data = datasets_.eval->description(),
                                                          .steps_per_epoch = course_.steps_per_epoch(),
                                                          .steps = steps_,
                                                          .peak_learning_rate = schedule_.peak()});
  const RankMemory memory = plan_memory(configuration_, model_);
  std::ranges::copy(plan_rows(configuration_, model_, memory, ranks), std::back_inserter(rows));
  for (const std::string& line : format_rows(rows)) log::info(line);
  for (const std::string& line : placement_warnings(ranks, run_start_.command)) log::warn(line);
}

RunEnd Trainer::run_steps() {
  while (steps_done_ < steps_ && !stop_agreed_) {
    const std::int64_t step = steps_done_;
    watched([&] { algorithm_->step(step, schedule_.at(course_.schedule_step(step))); });
    ++steps_done_;
    if (evaluation_is_due(step)) evaluate();
    if (checkpoint_is_due(step)) save_periodic_checkpoint();
  }
  if (steps_done_ < steps_) {
    if (communicator_.rank() == 0) log::info(format("asked to stop: saving step {}", steps_done_));
    save_last_checkpoint();
    return RunEnd::stopped;
  }
  finish();
  return RunEnd::done;
}

/// What a run ends with; done again where an earlier end was cut short.
void Trainer::finish() {
  if (evaluated_at_ != steps_done_) evaluate();
  save_last_checkpoint();
  gather_mean_model();
  agree(communicator_, [&] {
    if (communicator_.rank() == 0) save_model(folder_.model());
  });
}

/// Clocks differ: rank 0's says when a checkpoint is due, and any rank's that time is up.
RankWishes Trainer::wishes() const {
  const std::optional<double> every = configuration_.checkpoint.every_minutes;
  return {.stop = run_start_.stop_wanted(),
          .checkpoint = communicator_.rank() == 0 && every && since_checkpoint_.elapsed_s() >= 60 * *every,
          .ready = checkpoint_writer_.is_ready() && !best_model_task_.is_running()};
}

/// Does what waits for all ranks as often as every step.
void Trainer::watched(const std::function<void()>& task) {
  if (run_start_.signals != nullptr) run_start_.signals->step_begins();
  task();
  if (run_start_.signals != nullptr) run_start_.signals->step_ends();
}

bool Trainer::evaluation_is_due(std::int64_t step) const {
  const std::int64_t every = configuration_.run.eval_every_epochs;
  return step + 1 == steps_ || (every > 0 && course_.ends_epoch(step) && course_.epochs_begun(step + 1) % every == 0);
}

bool Trainer::checkpoint_is_due(std::int64_t step) const {
  const CheckpointConfiguration& every = configuration_.checkpoint;
  if (step + 1 == steps_) return false;  // the final one comes
  return checkpoint_agreed_ || (every.every_steps && (step + 1) % *every.every_steps == 0) ||
         (every.every_epochs && course_.ends_epoch(step) && course_.epochs_begun(step + 1) % *every.every_epochs == 0);
}

/// The mean model of all finished steps and its statistics; training does not notice.
void Trainer::gather_mean_model() {
  if (gathered_at_ == steps_done_) return;
  settle_best_model();
  watched([&] { algorithm_->drain(mean_model_); });
  // The invariant that everything rests on; memory errors and faulty transports break it.
  expect_same(communicator_, ErrorKind::failure, "mean model",
              format("hash {}", hash_text(hash_bytes(std::as_bytes(mean_model_.values())))),
              "its bits must agree; suspect this host's memory or network, or with comm.algorithm: mpi the library");
  model_.statistics.average(communicator_, mean_statistics_);
  gathered_at_ = steps_done_;
}

void Trainer::evaluate() {
  const trace::Span span("compute", "evaluation");
  gather_mean_model();
  const Evaluation result = evaluator_.evaluate(mean_model_, mean_statistics_);
  algorithm_->resume();

  write(EvalEvent{.step = steps_done_,
                  .epoch = course_.epochs_begun(steps_done_),
                  .top1 = result.top1,
                  .top5 = result.top5,
                  .loss = result.loss,
                  .images = result.images});
  evaluated_at_ = steps_done_;
  final_top1_ = result.top1;
  const bool is_best = !best_top1_ || result.top1 > *best_top1_;
  if (is_best) best_top1_ = result.top1;
  if (communicator_.rank() != 0) return;
  log::info(format("epoch {}/{}  evaluation: top-1 {:.2f} %  top-5 {:.2f} %  loss {:.4f}  ({} images){}",
                   course_.epochs_begun(steps_done_), configuration_.run.epochs, 100 * result.top1, 100 * result.top5,
                   result.loss, result.images, is_best ? "  best so far" : ""));
  if (!is_best) return;
  best_model_task_.start([this] {
    const trace::Span writing("checkpoint", "write best model");
    save_model(folder_.best());
  });
}

/// Waits for the best model under way, if there is one: the mean model may change again.
void Trainer::settle_best_model() {
  if (const auto error = best_model_task_.wait()) log::warn(format("{}; training goes on", error->what()));
}

std::vector<CheckpointFile> Trainer::files_to_save() {
  return checkpoint_files(communicator_.rank(), {.mean_model = mean_model_,
                                                 .mean_statistics = mean_statistics_,
                                                 .local_statistics = model_.statistics.local(),
                                                 .state = algorithm_->state()});
}

CheckpointManifest Trainer::checkpoint_manifest() const {
  CheckpointManifest manifest{.version = kVersion,
                              .position = course_.at(steps_done_),
                              .ranks = communicator_.size(),
                              .workers_per_rank = configuration_.algorithm.workers_per_rank,
                              .threads = run_start_.threads.compute,
                              .isa = nn::instruction_set(),
                              .data_fingerprint = data_fingerprint(),
                              .evaluated_at_step = evaluated_at_,
                              .best_top1 = best_top1_,
                              .final_top1 = final_top1_};
  std::istringstream lines(to_lines(configuration_));
  for (std::string line; std::getline(lines, line);) manifest.configuration.push_back(line);
  return manifest;
}

/// Written from a copy while training goes on, once the one before is there.
void Trainer::save_periodic_checkpoint() {
  settle_periodic_checkpoint();
  go_on_without([&] { begin_checkpoint(&*checkpoint_copy_); });
}

/// Waits for the end of the checkpoint under way, if there is one.
void Trainer::settle_periodic_checkpoint() {
  while (checkpoint_writer_.is_under_way()) go_on_without([&] { advance_checkpoint(); });
}

/// The state that a run ends in. Nothing goes on beside it, so it needs no copy; a run without it has failed.
void Trainer::save_last_checkpoint() {
  settle_periodic_checkpoint();
  if (checkpoint_at_ == steps_done_) return;
  begin_checkpoint(nullptr);
  while (checkpoint_writer_.is_under_way()) advance_checkpoint();
}

/// From the copy, or else from the arrays as they are, which then must stay so.
void Trainer::begin_checkpoint(CheckpointCopy* copy) {
  const trace::Span span("compute", "checkpoint");
  checkpoint_agreed_ = false;
  since_checkpoint_.restart_s();
  checkpoint_event_ = {.step = steps_done_,
                       .epoch = course_.epochs_begun(steps_done_),
                       .path = "checkpoints/" + checkpoint_name(steps_done_)};
  gather_mean_model();
  if (!std::isfinite(squared_norm(mean_model_.values()))) {
    throw Error(ErrorKind::diverged,
                format("the mean model of step {} holds NaN or Inf; it was not saved", steps_done_), Extent::all_ranks);
  }
  std::vector<CheckpointFile> files = files_to_save();
  if (copy != nullptr) files = copy->take(std::move(files));
  checkpoint_writer_.begin(checkpoint_manifest(), std::move(files));
  checkpoint_event_.stall_s = since_checkpoint_.elapsed_s();
}

void Trainer::advance_checkpoint() {
  const trace::Span span("compute", "checkpoint");
  const Stopwatch watch;
  settle_best_model();  // no checkpoint knows a best accuracy whose model is not there
  const bool is_there = checkpoint_writer_.advance();
  checkpoint_event_.stall_s += watch.elapsed_s();
  if (!is_there) return;
  checkpoint_event_.wall_s = since_checkpoint_.elapsed_s();
  checkpoint_at_ = checkpoint_event_.step;
  write(checkpoint_event_);
}

/// A checkpoint that cannot be written costs itself only: the one before is still there.
void Trainer::go_on_without(const std::function<void()>& saving) {
  try {
    saving();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::failure || error.extent() != Extent::all_ranks) throw;
    if (communicator_.rank() == 0) {
      log::warn(format("no checkpoint of step {}: {}; training goes on", checkpoint_event_.step, error.what()));
    }
  }
}

void Trainer::save_model(const std::string& path) const {
  save_safetensors(path, {&mean_model_, &mean_statistics_}, {{"format", "pt"}, {"model", configuration_.model.name}});
}

void Trainer::on_step(const StepRecord& record) {
  const double images = static_cast<double>(global_batch(configuration_, communicator_));
  const StepEvent event{.step = record.step + 1,
                        .epoch = course_.epochs_begun(record.step + 1),
                        .loss = record.loss,
                        .lr = record.learning_rate,
                        .grad_norm = record.gradient_norm,
                        .lambda = record.lambda,
                        .distance_norm = record.distance_norm,
                        .images_per_s = 1e3 * images / record.step_ms,
                        .step_ms = record.step_ms,
                        .compute_ms = record.compute_ms,
                        .all_reduce_ms = record.all_reduce_ms,
                        .wait_ms = record.wait_ms,
                        .overlap = share_hidden(communicator_, record.wait_ms, record.all_reduce_ms),
                        .data_wait_ms = loader_.take_wait_ms(),
                        .bad_images = loader_.bad_images()};
  stop_agreed_ = stop_agreed_ || record.stop_wanted;
  checkpoint_agreed_ = checkpoint_agreed_ || record.checkpoint_wanted;
  ++steps_reported_;
  totals_.step_ms += record.step_ms;
  totals_.compute_ms += record.compute_ms;
  totals_.all_reduce_ms += record.all_reduce_ms;
  totals_.wait_ms += record.wait_ms;
  if (event.step % configuration_.output.metrics_every_steps == 0 || event.step == steps_) write(event);
  progress_.step(event);
  if (record.all_ready) go_on_without([&] { advance_checkpoint(); });
}

void Trainer::write_start() {
  StartEvent event{.version = kVersion,
                   .command = run_start_.command,
                   .config_hash = configuration_hash(configuration_),
                   .ranks = communicator_.size(),
                   .workers = communicator_.size() * configuration_.algorithm.workers_per_rank,
                   .threads = run_start_.threads.compute,
                   .isa = nn::instruction_set(),
                   .parameters = static_cast<std::int64_t>(model_.weights.layout().element_count())};
  if (run_start_.checkpoint) event.resumed_from = course_.start().step;
  for (const comm::RankPlace& place : communicator_.places()) event.hosts.push_back(place.host);
  event.all_reduce_bytes = all_reduce_bytes(configuration_, event.parameters, communicator_.size());
  write(event);
}

void Trainer::write_end(const std::string& status, int exit_code) {
  settle_best_model();
  const double images = static_cast<double>(global_batch(configuration_, communicator_) * steps_reported_);
  const EndEvent event{.status = status,
                       .exit_code = exit_code,
                       .best_top1 = best_top1_,
                       .final_top1 = final_top1_,
                       .wall_s = wall_.elapsed_s(),
                       .images_per_s = steps_reported_ > 0 ? 1e3 * images / totals_.step_ms : 0};
  write(event);
  if (communicator_.rank() != 0) return;
  log_end(event);
  try {
    write_summary(folder_.summary(), event);
  } catch (const Error& error) {
    log::warn(error.what());  // metrics.jsonl has the same; what ended the run counts more
  }
}

void Trainer::log_end(const EndEvent& event) const {
  if (steps_reported_ == 0) return;
  const auto steps = static_cast<double>(steps_reported_);
  const std::string communication =
      communicator_.size() == 1
          ? ""
          : format(", compute {:.1f} ms, all-reduce {:.1f} ms, wait {:.1f} ms, overlap {:.3f}",
                   totals_.compute_ms / steps, totals_.all_reduce_ms / steps, totals_.wait_ms / steps,
                   share_hidden(communicator_, totals_.wait_ms, totals_.all_reduce_ms));
  log::info(format("{}: {} steps in {}, {:.1f} img/s; mean step {:.1f} ms{}", event.status, steps_reported_,
                   format_duration(event.wall_s), event.images_per_s, totals_.step_ms / steps, communication));
}

void Trainer::write(const Event& event) {
  if (metrics_) metrics_->write(event);
  if (tensorboard_) tensorboard_->write(event);
}

}  // namespace dcs3gd::app
