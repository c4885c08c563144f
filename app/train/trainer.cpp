#include "app/train/trainer.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <filesystem>
#include <initializer_list>
#include <iterator>
#include <limits>
#include <map>
#include <span>
#include <sstream>
#include <string_view>
#include <utility>

#include "app/checkpoint/checkpoint_files.h"
#include "app/job/agreement.h"
#include "app/job/background_task.h"
#include "app/job/exit_code.h"
#include "app/model/safetensors.h"
#include "app/model/training_graph.h"
#include "app/record/first_batch.h"
#include "app/record/trace_file.h"
#include "app/report/start_report.h"
#include "app/rules/table.h"
#include "app/train/fresh_plan.h"
#include "app/train/resume.h"
#include "core/error.h"
#include "core/format.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/trace.h"
#include "core/vector_math.h"
#include "core/version.h"
#include "data/formats.h"
#include "nn/onednn/cpu.h"

namespace dcs3gd::app {

namespace {

std::string hash_of(std::initializer_list<std::span<const float>> arrays) {
  StreamingHash hash;
  for (const std::span<const float> values : arrays) hash.add(std::as_bytes(values));
  return format("hash {}", hash_text(hash.value()));
}

}  // namespace

// --- the loop ---

RunEnd Trainer::run_steps() {
  while (steps_done_ < steps_ && !early_stopping_.is_over() && !stop_agreed_ && !checkpointer_.has_given_up()) {
    const std::int64_t step = steps_done_;
    timed_by_signals([&] { take_step(step); });
    ++steps_done_;
    if (evaluation_is_due(step)) evaluate();
    if (steps_done_ < steps_ && checkpointer_.is_due(step)) save_periodic_checkpoint();
  }
  if (steps_done_ < steps_ && !early_stopping_.is_over()) {
    if (communicator_.rank() == 0 && stop_agreed_) log::info(format("asked to stop: saving step {}", steps_done_));
    save_last_checkpoint();
    return RunEnd::stopped;
  }
  finish();
  return RunEnd::done;
}

void Trainer::take_step(std::int64_t step) {
  rule_->compute_gradients(step, next_batch_);
  received_ = rule_->receive();
  if (received_) heed(*received_);
  average_weights(step);
  rule_->update_and_send(learning_rate(step), tail());
  record_received();  // while the all-reduce is in flight
}

/// In the first steps the average is of fewer: it does not keep the first weights. Of what is stale it is a step late.
void Trainer::average_weights(std::int64_t step) {
  if (!average_) return;
  const auto steps = static_cast<double>(step);
  const double decay = std::min(*configuration_.model.ema_decay, (1 + steps) / (10 + steps));
  move_towards(rule_->shared_weights(), static_cast<float>(1 - decay), average_->values());
}

/// Once in a run: a picture of what is trained on.
void Trainer::show(const nn::BatchView& batch) {
  if (std::exchange(has_shown_batch_, true) || communicator_.rank() != 0) return;
  try {
    if (std::filesystem::exists(folder_.first_batch())) return;
    const data::Dataset& images = *datasets_.train;
    write_first_batch(folder_.first_batch(), batch,
                      {.channels = images.channels(), .height = images.height(), .width = images.width()},
                      data::normalization_of(configuration_.data));
  } catch (const std::exception& error) {  // no reason to end a run
    log::warn(error.what());
  }
}

double Trainer::learning_rate(std::int64_t step) const { return schedule_.at(epoch_plan_.schedule_step(step)); }

/// What this rank lets the others know with a step. heed() reads their sums, in this order.
Tail Trainer::tail() {
  const auto [hash_1, hash_2] = replica_guard_.look_at(steps_done_, rule_->shared_weights());
  return {hash_1,
          hash_2,
          run_start_.stop_wanted() ? 1.0F : 0.0F,
          checkpointer_.is_overdue() ? 1.0F : 0.0F,
          checkpointer_.is_ready() ? 1.0F : 0.0F,
          is_folder_taken() ? 1.0F : 0.0F,
          static_cast<float>(loader_.bad_images())};
}

/// Acts on what the ranks let each other know with a step; all do so at the same point.
void Trainer::heed(const StepReport& report) {
  const auto [hash_1, hash_2, stop, checkpoint, ready, taken, bad_images] = report.tail;
  if (hash_1 != 0 || hash_2 != 0) expect_same_mean_model(replica_guard_.seen());
  if (taken > 0) {
    throw Error(ErrorKind::failure,
                format("the run folder {} was taken over by {}: this run ends and leaves it alone", folder_.path(),
                       communicator_.from_rank_0(claim_ != nullptr ? claim_->taken_by() : "")),
                ErrorScope::all_ranks);
  }
  // A suspended job is one slow step, slow computing several.
  const double compute_ms = std::exchange(last_compute_ms_, report.compute_ms);
  communicator_.allow_for(1e-3 * std::min(compute_ms, report.compute_ms));
  stop_agreed_ = stop_agreed_ || stop > 0;
  if (checkpoint > 0) checkpointer_.requested();
  if (ready == static_cast<float>(communicator_.size())) checkpointer_.advance();
}

void Trainer::record(const StepReport& report) {
  record_.write_step(report, {.epoch = epoch_plan_.epochs_begun(report.step + 1),
                              .data_wait_ms = loader_.take_wait_ms(),
                              .bad_images = static_cast<std::int64_t>(report.tail.back())});
  warn_of_slowdown(report);
}

/// All ranks become slow together; the first and the last say how it looks from there.
void Trainer::warn_of_slowdown(const StepReport& report) {
  const auto usual_ms = slowdown_.add(report.step_ms);
  const int rank = communicator_.rank();
  const int ranks = communicator_.size();
  if (!usual_ms || (rank != 0 && rank + 1 != ranks)) return;
  const int left = (rank + ranks - 1) % ranks;
  const bool waits = report.wait_ms > report.compute_ms;
  log::warn(format(
      "for a minute a step has taken {:.0f} ms instead of {:.0f} ms, {:.0f} ms of it waiting for others: look at {}",
      report.step_ms, *usual_ms, report.wait_ms,
      waits ? format("the network and the load of the others, first of rank {} on {}", left,
                     communicator_.places()[static_cast<std::size_t>(left)].host)
            : format("the load of this host, {}", communicator_.host())));
}

void Trainer::record_received() {
  if (const auto report = std::exchange(received_, std::nullopt)) record(*report);
}

/// Runs a task that may block on other ranks, so that a stop signal can end the process if it hangs.
void Trainer::timed_by_signals(const std::function<void()>& task) {
  if (run_start_.signals != nullptr) run_start_.signals->step_begins();
  const std::optional<Error> error = attempt(task);
  if (run_start_.signals != nullptr) run_start_.signals->step_ends();
  if (error) throw Error(*error);
}

/// What a run ends with; done again where an earlier end was cut short.
void Trainer::finish() {
  if (evaluated_at_ != steps_done_) evaluate();
  save_last_checkpoint();
  gather_mean_model();
  save_final_model();
}

/// The invariant that everything rests on; memory errors and faulty transports break it. `seen` is a hash.
void Trainer::expect_same_mean_model(const std::string& seen) {
  expect_same(communicator_, ErrorKind::failure, "mean model", seen,
              "its bits must agree, so nothing of it is saved; suspect that host's memory or network, or with "
              "comm.algorithm: mpi the library. The last checkpoint is as it was");
}

// --- the mean model, evaluated and saved ---

bool Trainer::evaluation_is_due(std::int64_t step) const {
  const std::int64_t every = configuration_.run.eval_every_epochs;
  return step + 1 == steps_ ||
         (every > 0 && epoch_plan_.ends_epoch(step) && epoch_plan_.epochs_begun(step + 1) % every == 0);
}

void Trainer::evaluate() {
  const trace::Span span("compute", "evaluation");
  gather_mean_model();
  const Evaluation result = evaluator_.evaluate(evaluated_model(), mean_statistics_);
  rule_->load_network();

  const std::int64_t epoch = epoch_plan_.epochs_begun(steps_done_);
  record_.write(EvalEvent{.step = steps_done_,
                          .epoch = epoch,
                          .top1 = result.top1,
                          .top5 = result.top5,
                          .loss = result.loss,
                          .images = result.images});
  evaluated_at_ = steps_done_;
  final_top1_ = result.top1;
  early_stopping_.note(result.top1);
  const bool is_best = best_model_.is_improved_by(result.top1);
  if (communicator_.rank() != 0) return;
  log::info(format("epoch {}/{}  evaluation: top-1 {:.2f} %  top-5 {:.2f} %  loss {:.4f}  ({} images){}", epoch,
                   configuration_.run.epochs, 100 * result.top1, 100 * result.top5, result.loss, result.images,
                   is_best ? "  best so far" : ""));
  if (!is_best) return;
  best_model_.start_writing([this] {
    const trace::Span writing("checkpoint", "write best model");
    expect_claim();
    return save_model(folder_.best());
  });
}

/// Gathers the mean model of all finished steps and its statistics, found finite; training does not notice.
void Trainer::gather_mean_model() {
  if (gathered_at_ == steps_done_) return;
  best_model_.wait(communicator_);  // it is written from the mean model
  timed_by_signals([&] {
    for (const StepReport& report : rule_->drain()) {
      heed(report);
      record(report);
    }
  });
  rule_->copy_mean_model(mean_model_);
  if (average_) std::ranges::copy(average_->values(), gathered_average_->values().begin());
  const std::span<const float> average = average_ ? gathered_average_->values() : std::span<const float>();
  expect_same_mean_model(hash_of({mean_model_.values(), average, model_.frozen.values()}));
  model_.statistics.average(communicator_, mean_statistics_);
  if (!std::isfinite(squared_norm(mean_model_.values()) + squared_norm(mean_statistics_.values()))) {
    throw Error(ErrorKind::diverged,
                format("the mean model of step {} or its running statistics hold NaN or Inf; it was not saved. Lower "
                       "optimizer.lr.base or warm up longer",
                       steps_done_),
                ErrorScope::all_ranks);
  }
  gathered_at_ = steps_done_;
}

FileDigest Trainer::save_model(const std::string& path) const {
  return save_safetensors(path, {&evaluated_model(), &mean_statistics_, &model_.frozen}, to_metadata(card_));
}

/// model.safetensors. Collective.
void Trainer::save_final_model() {
  BackgroundTask saving("dcs3gd-model");
  if (communicator_.rank() == 0) {
    saving.start([this] {
      expect_claim();
      save_model(folder_.model());
    });
  }
  all_done(communicator_, saving, folder_.model());
  agree(communicator_, saving.wait());
}

// --- checkpoints ---

void Trainer::save_periodic_checkpoint() {
  if (!checkpointer_.begin(steps_done_)) return;
  gather_mean_model();
  checkpointer_.write_copy(checkpoint_manifest(), checkpoint_content());
}

void Trainer::save_last_checkpoint() {
  checkpointer_.finish();
  if (checkpointer_.saved_at() == steps_done_) return;
  checkpointer_.begin_last(steps_done_);
  gather_mean_model();
  const std::optional<Error> refused = checkpointer_.write(checkpoint_manifest(), checkpoint_content());
  if (!refused) return;
  // The weights alone may find room.
  const std::optional<Error> lost = failure_of_all([&] { save_final_model(); });
  throw Error(refused->kind(),
              format("no checkpoint of the last step, {}: {}; the weights alone are {}", steps_done_, refused->what(),
                     lost ? format("lost: {}", lost->what()) : "in " + folder_.model()),
              refused->scope());
}

CheckpointContent Trainer::checkpoint_content() {
  return {.mean_model = mean_model_,
          .mean_statistics = mean_statistics_,
          .local_statistics = model_.statistics.local(),
          .frozen = model_.frozen,
          .state = rule_->state(),
          .model_metadata = to_metadata(card_),
          .average = average_ ? &*average_ : nullptr,
          .is_of_mean_worker = configuration_.checkpoint.workers == CheckpointWorkers::average};
}

CheckpointManifest Trainer::checkpoint_manifest() const {
  const bool saves_all = configuration_.checkpoint.workers == CheckpointWorkers::all;
  CheckpointManifest manifest{.version = kVersion,
                              .position = epoch_plan_.at(steps_done_),
                              .ranks = saves_all ? communicator_.size() : 1,
                              .workers_per_rank = saves_all ? configuration_.algorithm.workers_per_rank : 1,
                              .threads = run_start_.threads.compute,
                              .isa = nn::instruction_set(),
                              .data_fingerprint = data_fingerprint(),
                              .evaluated_at_step = evaluated_at_,
                              .best_top1 = best_model_.top1(),
                              .final_top1 = final_top1_};
  std::istringstream lines(to_lines(configuration_));
  for (std::string line; std::getline(lines, line);) manifest.configuration.push_back(line);
  for (const StateNumber& number : rule_->state().numbers) manifest.rule[number.name] = *number.value;
  if (configuration_.run.early_stopping.patience_evaluations) early_stopping_.save(manifest.rule);
  return manifest;
}

// --- start and end ---

namespace {

data::SamplePlan training_plan(const Configuration& configuration, const comm::Communicator& communicator,
                               const data::Position& start) {
  const AlgorithmOptions& algorithm = configuration.algorithm;
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

data::EpochPlan epoch_plan_of(const Configuration& configuration, const comm::Communicator& communicator,
                              const RunStart& run_start, const data::Dataset& dataset) {
  const data::Position start = run_start.checkpoint ? run_start.checkpoint->manifest.position : data::Position();
  return {start, dataset.size(), global_batch(configuration, communicator), configuration.run.epochs};
}

ModelCard with_class_names(ModelCard card, const data::Dataset& dataset) {
  card.class_names = dataset.class_names();
  return card;
}

InitialWeights initial_weights_of(const Configuration& configuration, const std::optional<Checkpoint>& checkpoint) {
  if (checkpoint) return {.seed = configuration.run.seed, .file = checkpoint->model()};
  return initial_weights(configuration);
}

nn::BatchView view_of(const data::Batch& batch) {
  return {.images = batch.images.data(),
          .labels = batch.labels.data(),
          .count = batch.count,
          .other_labels = batch.other_labels.empty() ? nullptr : batch.other_labels.data(),
          .label_share = batch.label_share};
}

}  // namespace

Trainer::Trainer(const Configuration& configuration, Datasets datasets, comm::Communicator& communicator,
                 const RunFolder& folder, const RunStart& run_start)
    : configuration_(configuration),
      communicator_(communicator),
      folder_(folder),
      run_start_(run_start),
      datasets_(std::move(datasets)),
      epoch_plan_(epoch_plan_of(configuration, communicator, run_start, *datasets_.train)),
      steps_(
          std::min(epoch_plan_.end(), configuration.run.max_steps.value_or(std::numeric_limits<std::int64_t>::max()))),
      card_(with_class_names(run_start.card, *datasets_.train)),
      model_(training_graph(card_, configuration), network_options(configuration, run_start.convolutions),
             initial_weights_of(configuration, run_start.checkpoint), communicator.rank()),
      loader_(datasets_.train, configuration.data, training_plan(configuration, communicator, epoch_plan_.start()),
              data::loader_thread_count(configuration.data.loader.threads, run_start.threads.spare)),
      next_batch_([this] {
        const nn::BatchView batch = view_of(*loader_.next());
        show(batch);
        return batch;
      }),
      schedule_(configuration.optimizer.lr, configuration.run.epochs, epoch_plan_.steps_per_epoch(),
                global_batch(configuration, communicator)),
      evaluator_(communicator, model_.network, datasets_.eval, configuration.data,
                 data::loader_thread_count(configuration.data.loader.threads, run_start.threads.spare)),
      record_(folder,
              {.rank = communicator.rank(),
               .ranks = communicator.size(),
               .images_per_step = global_batch(configuration, communicator),
               .metrics_every_steps = configuration.output.metrics_every_steps,
               .progress = {.style = communicator.rank() == 0 ? resolve_progress_style(configuration.output.progress)
                                                              : ProgressStyle::none,
                            .epochs = configuration.run.epochs,
                            .steps_per_epoch = epoch_plan_.steps_per_epoch(),
                            .steps = steps_},
               .settings = settings_of(configuration),
               .mlflow = configuration.output.mlflow}),
      replica_guard_(communicator),
      mean_model_(model_.weights),
      mean_statistics_(model_.network.statistics_layout()),
      steps_done_(epoch_plan_.start().step),
      early_stopping_(configuration.run.early_stopping,
                      run_start.checkpoint ? run_start.checkpoint->manifest.rule : std::map<std::string, double>()),
      checkpointer_(communicator, folder.checkpoints(), configuration.checkpoint, epoch_plan_, best_model_, record_,
                    [this] { expect_claim(); }) {
  if (!run_start.checkpoint) return;
  const CheckpointManifest& manifest = run_start.checkpoint->manifest;
  if (manifest.data_fingerprint != data_fingerprint()) {
    throw Error(ErrorKind::input,
                format("{} cannot be continued with other data; it was trained on\n{}\nand this is\n{}",
                       run_start.checkpoint->path, manifest.data_fingerprint, data_fingerprint()));
  }
  evaluated_at_ = manifest.evaluated_at_step;
  best_model_.set_top1(manifest.best_top1);
  final_top1_ = manifest.final_top1;
}

std::string Trainer::data_fingerprint() const {
  return format("training {}\nevaluation {}", datasets_.train->fingerprint(), datasets_.eval->fingerprint());
}

RunEnd Trainer::train(RunFolderClaim* claim) {
  claim_ = claim;
  start();
  RunEnd end = RunEnd::done;
  std::optional<Error> error = attempt([&] { end = run_steps(); });
  if (error && error->scope() == ErrorScope::all_ranks) {
    checkpointer_.finish();                      // with all ranks here, what is being saved comes to its end
    if (error->kind() == ErrorKind::diverged) {  // unless NaN came to one rank alone
      const auto odd_rank = attempt([&] { expect_same_mean_model(hash_of({rule_->shared_weights()})); });
      if (odd_rank) error = odd_rank;
    }
  }
  if (error && is_folder_taken()) throw *error;               // its files are another's
  if (error && communicator_.has_lost_ranks()) throw *error;  // no end: those left go on
  if (error) {
    record_received();
    write_end(error->kind() == ErrorKind::diverged ? "diverged" : "failed", error->exit_code());
    throw *error;
  }
  if (configuration_.output.trace) write_trace(communicator_, folder_.trace(), rule_->prices_by_tensor());
  if (end == RunEnd::done) {
    write_end("done", 0);
  } else {
    write_end("stopped", kExitStopped);
  }
  return end;
}

void Trainer::start() {
  if (configuration_.output.trace) trace::start();
  report_start();
  model_.broadcast(communicator_);
  rule_ = make_rule({.communicator = communicator_, .network = model_.network, .running_statistics = model_.statistics},
                    planned_rule_options(), model_.weights.copy());
  if (configuration_.model.ema_decay) {
    average_ = model_.weights.copy();
    gathered_average_ = model_.weights.copy();
  }
  if (run_start_.checkpoint) restore();
  agree(communicator_, [&] {
    checkpointer_.reserve(checkpoint_content());
    record_.open(steps_done_);
  });
  write_start();
  record_.start_clock();
  checkpointer_.start_clock();
}

/// The first step of this run that is not before `epoch`, as the learning rate's schedule counts epochs.
std::int64_t Trainer::first_step_of(double epoch) const {
  const auto wanted = static_cast<double>(epoch_plan_.steps_per_epoch()) * epoch;
  std::int64_t step = epoch_plan_.start().step;
  while (step < epoch_plan_.end() && static_cast<double>(epoch_plan_.schedule_step(step)) < wanted) ++step;
  return step;
}

RuleOptions Trainer::planned_rule_options() {
  RuleOptions options = rule_options(configuration_);
  const AlgorithmOptions& algorithm = configuration_.algorithm;
  if (algorithm.overlap_from_epoch > 0) options.overlap_from_step = first_step_of(algorithm.overlap_from_epoch);
  const double* saved_share = nullptr;
  if (run_start_.checkpoint) {
    const std::map<std::string, double>& saved = run_start_.checkpoint->manifest.rule;
    if (const auto number = saved.find(kFreshShare); number != saved.end()) saved_share = &number->second;
  }
  // A run keeps the share that was planned at its start.
  options.algorithm.fresh =
      saved_share != nullptr ? *saved_share : plan_fresh_share(configuration_, communicator_, model_);
  if (algorithm.lambda_until_epoch) options.lambda_until_step = first_step_of(*algorithm.lambda_until_epoch);
  return options;
}

void Trainer::restore() {
  const Checkpoint& checkpoint = *run_start_.checkpoint;
  const CheckpointManifest& manifest = checkpoint.manifest;
  agree(communicator_, [&] {
    if (communicator_.rank() == 0) set_aside_later_checkpoints(folder_.checkpoints(), steps_done_);
  });
  restore_checkpoint(communicator_, checkpoint, *rule_, model_.statistics, learning_rate(steps_done_ - 1));
  agree(communicator_, [&] {
    if (average_) load_safetensors(format("{}/{}", checkpoint.path, kAverageFile), {&*average_});
  });
  restore_best_model();
  const bool is_own = communicator_.rank() == 0 && is_of(folder_, checkpoint);  // hosts may see it differently
  if (!communicator_.from_rank_0(is_own ? "own" : "").empty()) checkpointer_.set_saved_at(steps_done_);
  if (communicator_.rank() != 0) return;
  const int workers = communicator_.size() * configuration_.algorithm.workers_per_rank;
  std::string how = "exactly";
  if (manifest.is_of_mean_worker()) {
    how = "saved with checkpoint.workers: average: from the mean model and the mean update";
  } else if (workers != manifest.workers()) {
    how = format("with {} instead of {}: from the mean model and the mean update", counted(workers, "worker"),
                 manifest.workers());
  } else if (!checkpoint.is_exact_for(workers)) {
    how = format("written by version {}: from the mean model and the mean velocity", manifest.version);
  } else if (communicator_.size() != manifest.ranks) {
    how = format("on {} ranks instead of {}: exactly but for the order of sums{}", communicator_.size(), manifest.ranks,
                 comm::is_narrow(configuration_.comm.wire) ? " and what the wire has lost" : "");
  } else if (run_start_.threads.compute != manifest.threads || nn::instruction_set() != manifest.isa) {
    how = format("with {} threads and {} instead of {} and {}: exactly but for rounding", run_start_.threads.compute,
                 nn::instruction_set(), manifest.threads, manifest.isa);
  }
  const std::string changes = changed_settings(checkpoint, configuration_, may_change_on_resume);
  if (!changes.empty()) how += format(", with other settings from here on (old -> new):{}", changes);
  log::info(format("continuing from {} (step {}), {}", checkpoint.path, steps_done_, how));
}

/// A best model that is not the one the checkpoint knows, because it was damaged, removed or replaced after the
/// checkpoint, is forgotten: the next evaluation makes it anew.
void Trainer::restore_best_model() {
  const std::optional<FileDigest>& known = run_start_.checkpoint->manifest.best_file;
  const CheckpointManifest& manifest = run_start_.checkpoint->manifest;
  const bool has_lost = known ? !is_intact(folder_.best(), *known) : manifest.format > 2 && manifest.best_top1;
  const bool is_lost = communicator_.rank() == 0 && has_lost;
  best_model_.set_file(known);
  if (communicator_.from_rank_0(is_lost ? "lost" : "").empty()) return;
  best_model_.set_top1(std::nullopt);
  best_model_.set_file(std::nullopt);
  evaluated_at_.reset();
  std::string aside;
  agree(communicator_, [&] {
    if (communicator_.rank() == 0 && std::filesystem::exists(folder_.best())) aside = set_aside(folder_.best());
  });
  if (communicator_.rank() != 0) return;
  log::warn(format("{} is {}: the best model is chosen anew, from here on", folder_.best(),
                   aside.empty() ? "missing" : format("damaged or newer than the checkpoint (renamed to {})", aside)));
}

void Trainer::expect_claim() {
  if (claim_ != nullptr) claim_->expect_held();
}

/// Logs on rank 0 what is going to happen.
void Trainer::report_start() {
  const std::vector<RankUse> ranks = gather_rank_uses(communicator_, run_start_.threads.compute);
  if (communicator_.rank() != 0) return;
  const RunPlan plan{.command = run_start_.command,
                     .folder = folder_.path(),
                     .training_data = datasets_.train->description(),
                     .evaluation_data = datasets_.eval->description(),
                     .training_images = datasets_.train->size(),
                     .steps_per_epoch = epoch_plan_.steps_per_epoch(),
                     .steps = steps_,
                     .peak_learning_rate = schedule_.peak()};
  std::vector<ReportRow> rows = run_rows(configuration_, plan);
  const RankMemory memory = plan_memory(configuration_, model_);
  const std::string_view all_reduce = communicator_.algorithm_for(model_.weights.layout().element_count());
  std::ranges::copy(plan_rows(configuration_, model_, all_reduce, memory, ranks), std::back_inserter(rows));
  for (const std::string& line : format_rows(rows)) log::info(line);
  warn_of_start(configuration_, plan, ranks);
}

void Trainer::write_start() {
  StartEvent event{.version = kVersion,
                   .command = run_start_.command,
                   .config_hash = configuration_hash(configuration_),
                   .ranks = communicator_.size(),
                   .workers = communicator_.size() * configuration_.algorithm.workers_per_rank,
                   .threads = run_start_.threads.compute,
                   .isa = nn::instruction_set(),
                   .parameters = static_cast<std::int64_t>(model_.graph.parameter_layout()->element_count())};
  if (run_start_.checkpoint) event.resumed_from = epoch_plan_.start().step;
  for (const comm::RankPlace& place : communicator_.places()) event.hosts.push_back(place.host);
  for (const StateNumber& number : rule_->state().numbers) {
    if (number.name == kFreshShare) event.fresh_share = *number.value;
  }
  const std::size_t trained = model_.weights.layout().element_count();
  event.all_reduce_bytes = all_reduce_bytes(configuration_, communicator_.algorithm_for(trained),
                                            static_cast<std::int64_t>(trained), communicator_.size());
  record_.write(event);
}

void Trainer::write_end(const std::string& status, int exit_code) {
  best_model_.wait();
  const bool is_early = status == "done" && steps_done_ < steps_;
  if (is_early && communicator_.rank() == 0) log::info(early_stopping_.why());
  record_.write_end({.status = status,
                     .exit_code = exit_code,
                     .best_top1 = best_model_.top1(),
                     .final_top1 = final_top1_,
                     .why = is_early ? early_stopping_.why() : ""});
}

}  // namespace dcs3gd::app
