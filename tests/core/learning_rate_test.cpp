#include "core/optim/learning_rate.h"

#include <cmath>

#include <doctest/doctest.h>

using namespace dcs3gd::optim;
using doctest::Approx;

namespace {

constexpr std::int64_t kEpochs = 10;
constexpr std::int64_t kStepsPerEpoch = 10;
constexpr std::int64_t kGlobalBatch = 256;

/// Peak 0.1 × 256 / 128 = 0.2, warm-up over steps 0 … 19, decay over steps 20 … 99.
LearningRateOptions two_epochs_of_warmup(ScheduleKind schedule) {
  LearningRateOptions options;
  options.warmup_epochs = 2;
  options.schedule = schedule;
  return options;
}

LearningRateSchedule schedule_of(const LearningRateOptions& options) {
  return {options, kEpochs, kStepsPerEpoch, kGlobalBatch};
}

}  // namespace

TEST_CASE("the peak is the base scaled by the global batch") {
  LearningRateOptions options;
  CHECK(schedule_of(options).peak() == Approx(0.2));
  options.scaling = LearningRateScaling::sqrt;
  CHECK(schedule_of(options).peak() == Approx(0.1 * std::sqrt(2.0)));
  options.scaling = LearningRateScaling::none;
  CHECK(schedule_of(options).peak() == Approx(0.1));
}

TEST_CASE("the warm-up rises in equal parts and ends at the peak with its last step, for every schedule") {
  for (const ScheduleKind kind :
       {ScheduleKind::linear, ScheduleKind::cosine, ScheduleKind::step, ScheduleKind::poly, ScheduleKind::constant}) {
    const LearningRateSchedule schedule = schedule_of(two_epochs_of_warmup(kind));
    CHECK(schedule.at(0) == Approx(0.01));
    CHECK(schedule.at(9) == Approx(0.1));
    CHECK(schedule.at(18) == Approx(0.19));
    CHECK(schedule.at(19) == schedule.peak());
    CHECK(schedule.at(20) == schedule.peak());
    CHECK(schedule.at(21) <= schedule.peak());
  }
}

TEST_CASE("the warm-up starts at warmup_start, whatever the batch") {
  LearningRateOptions options = two_epochs_of_warmup(ScheduleKind::constant);
  options.warmup_start = 0.05;
  const LearningRateSchedule schedule = schedule_of(options);
  CHECK(schedule.at(0) == Approx(0.0575));  // 0.05 + 0.15 / 20
  CHECK(schedule.at(19) == schedule.peak());
  // The gradual warm-up of Goyal et al.: from the rate of one worker to that of all.
  options.warmup_start = options.base;
  CHECK(schedule_of(options).at(0) == Approx(0.105));
}

TEST_CASE("a warm-up may take part of an epoch, or none") {
  LearningRateOptions options = two_epochs_of_warmup(ScheduleKind::constant);
  options.warmup_epochs = 0.5;  // five steps
  CHECK(schedule_of(options).at(3) == Approx(0.16));
  CHECK(schedule_of(options).at(4) == Approx(0.2));
  options.warmup_epochs = 0;
  CHECK(schedule_of(options).at(0) == Approx(0.2));
}

TEST_CASE("linear falls in equal parts to the final rate") {
  LearningRateOptions options = two_epochs_of_warmup(ScheduleKind::linear);
  CHECK(schedule_of(options).at(60) == Approx(0.1));
  CHECK(schedule_of(options).at(99) == Approx(0.2 / 80));
  options.final_rate = 0.02;  // whatever the batch
  CHECK(schedule_of(options).at(60) == Approx(0.11));
  CHECK(schedule_of(options).at(99) == Approx(0.02 + 0.18 / 80));
}

TEST_CASE("cosine falls by half a wave to the final rate") {
  LearningRateOptions options = two_epochs_of_warmup(ScheduleKind::cosine);
  CHECK(schedule_of(options).at(40) == Approx(0.1 * (1 + std::sqrt(0.5))));
  CHECK(schedule_of(options).at(60) == Approx(0.1));
  CHECK(schedule_of(options).at(80) == Approx(0.1 * (1 - std::sqrt(0.5))));
  options.final_rate = 0.02;
  CHECK(schedule_of(options).at(60) == Approx(0.11));
}

TEST_CASE("poly falls by its power to the final rate") {
  LearningRateOptions options = two_epochs_of_warmup(ScheduleKind::poly);
  CHECK(schedule_of(options).at(40) == Approx(0.1125));  // 0.2 × 0.75²
  CHECK(schedule_of(options).at(60) == Approx(0.05));
  options.power = 3;
  options.final_rate = 0.02;
  CHECK(schedule_of(options).at(60) == Approx(0.0425));  // 0.02 + 0.18 / 8
}

TEST_CASE("step multiplies by gamma from the first step of each milestone's epoch") {
  LearningRateOptions options = two_epochs_of_warmup(ScheduleKind::step);
  options.milestones = {5, 8.5};
  options.gamma = 0.5;
  const LearningRateSchedule schedule = schedule_of(options);
  CHECK(schedule.at(49) == Approx(0.2));
  CHECK(schedule.at(50) == Approx(0.1));
  CHECK(schedule.at(84) == Approx(0.1));
  CHECK(schedule.at(85) == Approx(0.05));
  CHECK(schedule.at(99) == Approx(0.05));
}

TEST_CASE("constant stays at the peak") {
  const LearningRateSchedule schedule = schedule_of(two_epochs_of_warmup(ScheduleKind::constant));
  CHECK(schedule.at(99) == schedule.peak());
}

TEST_CASE("steps after the horizon get the last value") {
  for (const ScheduleKind kind :
       {ScheduleKind::linear, ScheduleKind::cosine, ScheduleKind::step, ScheduleKind::poly, ScheduleKind::constant}) {
    const LearningRateSchedule schedule = schedule_of(two_epochs_of_warmup(kind));
    CHECK(schedule.at(100) == schedule.at(99));
    CHECK(schedule.at(1000000) == schedule.at(99));
  }
}

TEST_CASE("a warm-up as long as the horizon ends at its peak, a longer one is cut off") {
  LearningRateOptions options = two_epochs_of_warmup(ScheduleKind::linear);
  options.warmup_epochs = kEpochs;
  CHECK(schedule_of(options).at(99) == Approx(0.2));
  CHECK(schedule_of(options).at(100) == Approx(0.2));
  options.warmup_epochs = 2 * kEpochs;
  CHECK(schedule_of(options).at(99) == Approx(0.1));
  CHECK(schedule_of(options).at(150) == Approx(0.1));
}
