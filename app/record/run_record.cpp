#include "app/record/run_record.h"

#include <algorithm>
#include <filesystem>
#include <limits>

#include "core/error.h"
#include "core/format.h"
#include "core/log.h"

namespace dcs3gd::app {

RunRecord::RunRecord(const RunFolder& folder, const RunRecordOptions& options)
    : folder_(folder), options_(options), progress_(options.progress) {}

void RunRecord::open(std::int64_t step) {
  if (options_.rank != 0) return;
  rewind_metrics(folder_.metrics(), step);
  metrics_.emplace(folder_.metrics());
  tensorboard_.emplace(folder_.path(), options_.settings);
  if (options_.mlflow) open_mlflow(*options_.mlflow, step);
  std::filesystem::remove(folder_.summary());  // an old one would claim that this run has ended
}

/// A store that cannot be written to is told of before a run begins. A run that goes on does without.
void RunRecord::open_mlflow(const std::string& store, std::int64_t step) {
  try {
    mlflow_.emplace(store, folder_, options_.settings, step);
  } catch (const std::exception& error) {
    if (step == 0) throw;
    log::warn(format("{}; MLflow hears nothing of this run, which goes on", error.what()));
  }
}

void RunRecord::write(const Event& event) {
  if (metrics_) metrics_->write(event);
  if (tensorboard_) tensorboard_->write(event);
  if (mlflow_) mlflow_->write(event);
}

void RunRecord::write_step(const StepReport& report, const StepContext& context) {
  const StepEvent event{.step = report.step + 1,
                        .epoch = context.epoch,
                        .loss = report.loss,
                        .lr = report.learning_rate,
                        .grad_norm = report.gradient_norm,
                        .lambda = report.lambda,
                        .distance_norm = report.distance_norm,
                        .staleness_price = report.staleness_price,
                        .staleness_sharpness = report.staleness_sharpness,
                        .images_per_s = 1e3 * static_cast<double>(options_.images_per_step) / report.step_ms,
                        .step_ms = report.step_ms,
                        .compute_ms = report.compute_ms,
                        .all_reduce_ms = report.all_reduce_ms,
                        .wait_ms = report.wait_ms,
                        .overlap = share_hidden(report.wait_ms, report.all_reduce_ms),
                        .data_wait_ms = context.data_wait_ms,
                        .bad_images = context.bad_images};
  ++steps_;
  totals_.step_ms += report.step_ms;
  totals_.compute_ms += report.compute_ms;
  totals_.all_reduce_ms += report.all_reduce_ms;
  totals_.wait_ms += report.wait_ms;
  if (event.step % options_.metrics_every_steps == 0 || event.step == options_.progress.steps) write(event);
  progress_.step(event);
}

void RunRecord::write_end(EndEvent event) {
  const double images = static_cast<double>(options_.images_per_step * steps_);
  event.wall_s = wall_.elapsed_s();
  event.images_per_s = steps_ > 0 ? 1e3 * images / totals_.step_ms : 0;
  event.wall_images_per_s = images / event.wall_s;
  write(event);
  if (options_.rank != 0) return;
  log_end(event);
  try {
    write_summary(folder_.summary(), event);
  } catch (const Error& error) {
    log::warn(error.what());  // metrics.jsonl has the same; what ended the run counts more
  }
}

void RunRecord::log_end(const EndEvent& event) const {
  if (steps_ == 0) return;
  const auto steps = static_cast<double>(steps_);
  const std::string communication =
      options_.ranks == 1 ? ""
                          : format(", compute {:.1f} ms, all-reduce {:.1f} ms, wait {:.1f} ms, overlap {:.3f}",
                                   totals_.compute_ms / steps, totals_.all_reduce_ms / steps, totals_.wait_ms / steps,
                                   share_hidden(totals_.wait_ms, totals_.all_reduce_ms));
  log::info(format("{}: {} in {}, {:.1f} img/s, {:.1f} with evaluations and checkpoints; mean step {:.1f} ms{}",
                   event.status, counted(steps_, "step"), format_duration(event.wall_s), event.images_per_s,
                   event.wall_images_per_s, totals_.step_ms / steps, communication));
  if (event.best_top1) log::info(format("best: top-1 {:.2f} %, {}", 100 * *event.best_top1, folder_.best()));
}

/// 1 − wait / all_reduce; NaN, which is null in the metrics, where nothing travelled.
double RunRecord::share_hidden(double wait_ms, double all_reduce_ms) const {
  if (options_.ranks == 1 || all_reduce_ms == 0) return std::numeric_limits<double>::quiet_NaN();
  return std::max(0.0, 1 - wait_ms / all_reduce_ms);
}

}  // namespace dcs3gd::app
