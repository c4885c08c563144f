#include "core/optim/learning_rate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace dcs3gd::optim {
namespace {

double batch_scale(LearningRateScaling scaling, double batch_ratio) {
  switch (scaling) {
    case LearningRateScaling::linear:
      return batch_ratio;
    case LearningRateScaling::sqrt:
      return std::sqrt(batch_ratio);
    case LearningRateScaling::none:
      break;
  }
  return 1;
}

}  // namespace

LearningRateSchedule::LearningRateSchedule(const LearningRateOptions& options, std::int64_t epochs,
                                           std::int64_t steps_per_epoch, std::int64_t global_batch)
    : options_(options),
      steps_per_epoch_(steps_per_epoch),
      total_steps_(epochs * steps_per_epoch),
      warmup_steps_(std::llround(options.warmup_epochs * static_cast<double>(steps_per_epoch))),
      scale_(batch_scale(options.scaling, static_cast<double>(global_batch) / options.reference_batch)) {
  options_.warmup_start /= scale_;  // at() scales them back
  options_.final_rate /= scale_;
}

double LearningRateSchedule::at(std::int64_t step) const {
  step = std::min(step, total_steps_ - 1);
  if (step < warmup_steps_) {
    const double done = static_cast<double>(step + 1) / static_cast<double>(warmup_steps_);
    return scale_ * (options_.warmup_start + done * (options_.base - options_.warmup_start));
  }
  const std::int64_t decay_steps = std::max<std::int64_t>(total_steps_ - warmup_steps_, 1);
  const double t = static_cast<double>(step - warmup_steps_) / static_cast<double>(decay_steps);
  const double range = options_.base - options_.final_rate;
  switch (options_.schedule) {
    case ScheduleKind::linear:
      return scale_ * (options_.final_rate + range * (1 - t));
    case ScheduleKind::cosine:
      return scale_ * (options_.final_rate + range * (1 + std::cos(std::numbers::pi * t)) / 2);
    case ScheduleKind::poly:
      return scale_ * (options_.final_rate + range * std::pow(1 - t, options_.power));
    case ScheduleKind::step: {
      const double epoch = static_cast<double>(step) / static_cast<double>(steps_per_epoch_);
      const auto passed = std::count_if(options_.milestones.begin(), options_.milestones.end(),
                                        [&](double milestone) { return milestone <= epoch; });
      return peak() * std::pow(options_.gamma, static_cast<double>(passed));
    }
    case ScheduleKind::constant:
      break;
  }
  return peak();
}

}  // namespace dcs3gd::optim
