#include "data/epoch_plan.h"

namespace dcs3gd::data {

EpochPlan::EpochPlan(const Position& start, std::int64_t images, std::int64_t global_batch, std::int64_t epochs)
    : start_(start), images_(images), global_batch_(global_batch), epochs_(epochs) {}

std::int64_t EpochPlan::end() const {
  if (start_.epoch >= epochs_) return start_.step;
  return start_.step + steps_left_in_first_epoch() + (epochs_ - start_.epoch - 1) * steps_per_epoch();
}

Position EpochPlan::at(std::int64_t steps_done) const {
  const std::int64_t steps = steps_done - start_.step;
  if (steps < steps_left_in_first_epoch()) {
    return {steps_done, start_.epoch, start_.images + steps * global_batch_};
  }
  const std::int64_t later = steps - steps_left_in_first_epoch();
  return {steps_done, start_.epoch + 1 + later / steps_per_epoch(), later % steps_per_epoch() * global_batch_};
}

std::int64_t EpochPlan::epochs_begun(std::int64_t steps_done) const {
  const Position position = at(steps_done);
  return position.images == 0 ? position.epoch : position.epoch + 1;
}

std::int64_t EpochPlan::schedule_step(std::int64_t step) const {
  const Position position = at(step);
  return position.epoch * steps_per_epoch() + position.images / global_batch_;
}

}  // namespace dcs3gd::data
