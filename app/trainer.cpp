#include "app/trainer.h"

#include <algorithm>
#include <iterator>
#include <limits>

#include "app/agreement.h"
#include "app/safetensors.h"
#include "app/start_report.h"
#include "core/error.h"
#include "core/format.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/version.h"
#include "nn/cpu.h"

namespace dcs3gd::app {
namespace {

data::SamplePlan training_plan(const Configuration& configuration, const comm::Communicator& communicator) {
  const AlgorithmConfiguration& algorithm = configuration.algorithm;
  return {.part = data::Part::train,
          .seed = configuration.run.seed,
          .rank = communicator.rank(),
          .workers_per_rank = algorithm.workers_per_rank,
          .workers = algorithm.workers_per_rank * communicator.size(),
          .batch_per_worker = algorithm.batch_per_worker,
          .epochs = configuration.run.epochs};
}

std::int64_t global_batch(const Configuration& configuration, const comm::Communicator& communicator) {
  return std::int64_t{configuration.algorithm.batch_per_worker} * configuration.algorithm.workers_per_rank *
         communicator.size();
}

/// 1 − wait / all_reduce; NaN, which is null in the metrics, where nothing travelled.
double share_hidden(const comm::Communicator& communicator, double wait_ms, double all_reduce_ms) {
  if (communicator.size() == 1 || all_reduce_ms == 0) return std::numeric_limits<double>::quiet_NaN();
  return std::max(0.0, 1 - wait_ms / all_reduce_ms);
}

}  // namespace

Datasets::Datasets(const Configuration& configuration)
    : train(data::open_dataset(configuration.data, data::Part::train, configuration.run.seed,
                               configuration.model.classes)),
      eval(data::open_dataset(configuration.data, data::Part::eval, configuration.run.seed,
                              configuration.model.classes)) {}

Trainer::Trainer(const Configuration& configuration, comm::Communicator& communicator, const RunFolder& folder,
                 const ThreadPlan& threads, const std::string& command)
    : configuration_(configuration),
      communicator_(communicator),
      folder_(folder),
      threads_(threads),
      command_(command),
      datasets_(configuration),
      model_(configuration, communicator.rank()),
      loader_(datasets_.train, configuration.data, training_plan(configuration, communicator),
              data::loader_thread_count(configuration.data.loader.threads, threads.spare)),
      steps_per_epoch_(loader_.steps_per_epoch()),
      steps_(std::min(configuration.run.epochs * steps_per_epoch_,
                      configuration.run.max_steps.value_or(std::numeric_limits<std::int64_t>::max()))),
      schedule_(configuration.optimizer.lr, configuration.run.epochs, steps_per_epoch_,
                global_batch(configuration, communicator)),
      surroundings_{.communicator = communicator,
                    .network = model_.network,
                    .running_statistics = model_.statistics,
                    .algorithm = configuration.algorithm,
                    .sgd = configuration.optimizer.sgd,
                    .wire = configuration.comm.wire,
                    .loss_limit = configuration.run.loss_limit,
                    .next_batch =
                        [this] {
                          const data::Batch& batch = *loader_.next();
                          return nn::BatchView{batch.images.data(), batch.labels.data(), batch.count};
                        },
                    .on_step = [this](const StepRecord& record) { on_step(record); }},
      evaluator_(communicator, model_.network, datasets_.eval, configuration.data,
                 data::loader_thread_count(configuration.data.loader.threads, threads.spare)),
      progress_({.style = communicator.rank() == 0 ? resolve_progress_style(configuration.output.progress)
                                                   : ProgressStyle::none,
                 .epochs = configuration.run.epochs,
                 .steps_per_epoch = steps_per_epoch_,
                 .steps = steps_}),
      mean_model_(model_.network.parameter_layout()),
      mean_statistics_(model_.network.statistics_layout()) {}

void Trainer::train() {
  start();
  try {
    run_steps();
  } catch (const Error& error) {
    write_end(error.kind() == ErrorKind::diverged ? "diverged" : "failed", error.exit_code());
    throw;
  }
  write_end("done", 0);
}

std::string Trainer::data_fingerprint() const {
  return format("training {}\nevaluation {}", datasets_.train->fingerprint(), datasets_.eval->fingerprint());
}

void Trainer::start() {
  report_start();
  model_.broadcast(communicator_);
  algorithm_ = make_update_algorithm(surroundings_, model_.weights);
  if (communicator_.rank() == 0) metrics_.emplace(folder_.metrics());
  write_start();
  wall_.restart_s();
}

/// What is going to happen, on rank 0's log.
void Trainer::report_start() {
  const std::vector<RankUse> ranks = gather_rank_uses(communicator_, threads_.compute);
  if (communicator_.rank() != 0) return;
  std::vector<ReportRow> rows = run_rows(configuration_, {.command = command_,
                                                          .folder = folder_.path(),
                                                          .training_data = datasets_.train->description(),
                                                          .evaluation_data = datasets_.eval->description(),
                                                          .steps_per_epoch = steps_per_epoch_,
                                                          .steps = steps_,
                                                          .peak_learning_rate = schedule_.peak()});
  std::ranges::copy(plan_rows(configuration_, model_, ranks), std::back_inserter(rows));
  for (const std::string& line : format_rows(rows)) log::info(line);
  for (const std::string& line : placement_warnings(ranks, command_)) log::warn(line);
}

void Trainer::run_steps() {
  for (std::int64_t step = 0; step < steps_; ++step) {
    algorithm_->step(step, schedule_.at(step));
    if (evaluation_is_due(step)) evaluate(step);
  }
  if (communicator_.rank() == 0) save_model(folder_.model());
}

bool Trainer::ends_epoch(std::int64_t step) const { return (step + 1) % steps_per_epoch_ == 0; }

bool Trainer::evaluation_is_due(std::int64_t step) const {
  const std::int64_t every = configuration_.run.eval_every_epochs;
  return step + 1 == steps_ || (every > 0 && ends_epoch(step) && epoch_of(step) % every == 0);
}

void Trainer::evaluate(std::int64_t step) {
  algorithm_->drain(mean_model_);
  // The invariant that everything rests on; memory errors and faulty transports break it.
  expect_same(communicator_, ErrorKind::failure, "mean model",
              format("hash {}", hash_text(hash_bytes(std::as_bytes(mean_model_.values())))),
              "its bits must agree; suspect this host's memory or network, or with comm.algorithm: mpi the library");
  model_.statistics.average(communicator_, mean_statistics_);
  const Evaluation result = evaluator_.evaluate(mean_model_, mean_statistics_);
  algorithm_->resume();

  write(EvalEvent{.step = step + 1,
                  .epoch = epoch_of(step),
                  .top1 = result.top1,
                  .top5 = result.top5,
                  .loss = result.loss,
                  .images = result.images});
  final_top1_ = result.top1;
  const bool is_best = !best_top1_ || result.top1 > *best_top1_;
  if (is_best) best_top1_ = result.top1;
  if (communicator_.rank() != 0) return;
  log::info(format("epoch {}/{}  evaluation: top-1 {:.2f} %  top-5 {:.2f} %  loss {:.4f}  ({} images){}",
                   epoch_of(step), configuration_.run.epochs, 100 * result.top1, 100 * result.top5, result.loss,
                   result.images, is_best ? "  best so far" : ""));
  if (is_best) save_model(folder_.best());
}

void Trainer::save_model(const std::string& path) const {
  save_safetensors(path, {&mean_model_, &mean_statistics_}, {{"format", "pt"}, {"model", configuration_.model.name}});
}

void Trainer::on_step(const StepRecord& record) {
  const double images = static_cast<double>(global_batch(configuration_, communicator_));
  const StepEvent event{.step = record.step + 1,
                        .epoch = epoch_of(record.step),
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
  ++steps_done_;
  totals_.step_ms += record.step_ms;
  totals_.compute_ms += record.compute_ms;
  totals_.all_reduce_ms += record.all_reduce_ms;
  totals_.wait_ms += record.wait_ms;
  if (event.step % configuration_.output.metrics_every_steps == 0 || event.step == steps_) write(event);
  progress_.step(event);
}

void Trainer::write_start() {
  StartEvent event{.version = kVersion,
                   .command = command_,
                   .config_hash = configuration_hash(configuration_),
                   .ranks = communicator_.size(),
                   .workers = communicator_.size() * configuration_.algorithm.workers_per_rank,
                   .threads = threads_.compute,
                   .isa = nn::instruction_set(),
                   .parameters = static_cast<std::int64_t>(model_.weights.layout().element_count())};
  for (const comm::RankPlace& place : communicator_.places()) event.hosts.push_back(place.host);
  event.all_reduce_bytes = all_reduce_bytes(configuration_, event.parameters, communicator_.size());
  write(event);
}

void Trainer::write_end(const std::string& status, int exit_code) {
  const double images = static_cast<double>(global_batch(configuration_, communicator_) * steps_done_);
  const EndEvent event{.status = status,
                       .exit_code = exit_code,
                       .best_top1 = best_top1_,
                       .final_top1 = final_top1_,
                       .wall_s = wall_.elapsed_s(),
                       .images_per_s = steps_done_ > 0 ? 1e3 * images / totals_.step_ms : 0};
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
  if (steps_done_ == 0) return;
  const auto steps = static_cast<double>(steps_done_);
  const std::string communication =
      communicator_.size() == 1
          ? ""
          : format(", compute {:.1f} ms, all-reduce {:.1f} ms, wait {:.1f} ms, overlap {:.3f}",
                   totals_.compute_ms / steps, totals_.all_reduce_ms / steps, totals_.wait_ms / steps,
                   share_hidden(communicator_, totals_.wait_ms, totals_.all_reduce_ms));
  log::info(format("{}: {} steps in {}, {:.1f} img/s; mean step {:.1f} ms{}", event.status, steps_done_,
                   format_duration(event.wall_s), event.images_per_s, totals_.step_ms / steps, communication));
}

void Trainer::write(const Event& event) {
  if (metrics_) metrics_->write(event);
}

}  // namespace dcs3gd::app
