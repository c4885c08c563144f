#pragma once

#include <cstdint>
#include <vector>

namespace dcs3gd::optim {

/// How the base learning rate grows with the global batch.
enum class LearningRateScaling { linear, sqrt, none };
/// What follows the warm-up.
enum class ScheduleKind { linear, cosine, step, poly, constant };

/// Affects results. Learning rates are given for `reference_batch` images and scaled together.
struct LearningRateOptions {
  double base = 0.1;  ///< peak learning rate for `reference_batch` images, > 0
  LearningRateScaling scaling = LearningRateScaling::linear;
  int reference_batch = 128;  ///< images, > 0
  double warmup_epochs = 5;   ///< linear rise from warmup_start to the peak; 0: none
  double warmup_start = 0;    ///< learning rate before the first step, whatever the batch
  ScheduleKind schedule = ScheduleKind::linear;
  std::vector<double> milestones;  ///< epochs, ascending; schedule step multiplies by gamma at each
  double gamma = 0.1;              ///< for step
  double power = 2;                ///< for poly
  double final_rate = 0;  ///< learning rate after the last step, whatever the batch; for linear, cosine and poly
};

/// The learning rate η of every step: a warm-up, then the schedule, over a horizon of epochs × steps_per_epoch.
/// A pure function of the step. The warm-up ends exactly at the peak with its last step; decay starts with the step
/// after it. With t = 0 … 1 the part of the remaining steps already done: linear peak + t·(final − peak); cosine
/// final + (peak − final)·(1 + cos πt)/2; poly final + (peak − final)·(1 − t)^power; step peak·gamma^(milestones
/// passed).
class LearningRateSchedule {
 public:
  /// `epochs` and `steps_per_epoch` are > 0; `global_batch`: images per step over all workers. A warm-up longer than
  /// the horizon is cut off by it.
  LearningRateSchedule(const LearningRateOptions& options, std::int64_t epochs, std::int64_t steps_per_epoch,
                       std::int64_t global_batch);

  /// η of step 0, 1, …; steps after the horizon get the last value.
  double at(std::int64_t step) const;
  /// base × scaling.
  double peak() const { return options_.base * scale_; }

 private:
  LearningRateOptions options_;
  std::int64_t steps_per_epoch_;
  std::int64_t total_steps_;
  std::int64_t warmup_steps_;
  double scale_;
};

}  // namespace dcs3gd::optim
