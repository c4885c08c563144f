#include "data/epoch_plan.h"

#include <doctest/doctest.h>

#include "data/sampler.h"

using namespace dcs3gd;
using namespace dcs3gd::data;

TEST_CASE("epoch plan: from the beginning it counts steps and epochs") {
  const EpochPlan plan({}, 10, 3, 2);  // three steps an epoch, one image left over
  CHECK(plan.steps_per_epoch() == 3);
  CHECK(plan.end() == 6);
  CHECK(plan.at(0) == Position{0, 0, 0});
  CHECK(plan.at(2) == Position{2, 0, 6});
  CHECK(plan.at(3) == Position{3, 1, 0});
  CHECK(plan.at(6) == Position{6, 2, 0});
  CHECK(plan.epochs_begun(1) == 1);
  CHECK(plan.epochs_begun(3) == 1);
  CHECK(plan.epochs_begun(4) == 2);
  CHECK_FALSE(plan.ends_epoch(1));
  CHECK(plan.ends_epoch(2));
  for (std::int64_t step = 0; step < 6; ++step) CHECK(plan.schedule_step(step) == step);
}

TEST_CASE("epoch plan: one that goes on from any position of another is the same") {
  const EpochPlan whole({}, 50, 8, 3);
  for (std::int64_t done = 0; done <= whole.end(); ++done) {
    const EpochPlan rest(whole.at(done), 50, 8, 3);
    CHECK(rest.end() == whole.end());
    CHECK(rest.epochs_begun(done) == whole.epochs_begun(done));
    for (std::int64_t step = done; step < whole.end(); ++step) {
      CHECK(rest.at(step) == whole.at(step));
      CHECK(rest.schedule_step(step) == step);
      CHECK(rest.ends_epoch(step) == whole.ends_epoch(step));
      CHECK(rest.epochs_begun(step + 1) == whole.epochs_begun(step + 1));
    }
  }
}

TEST_CASE("epoch plan: with another global batch it goes on after the images used, and so does the sampler") {
  constexpr std::int64_t kImages = 50;
  constexpr std::int64_t kEpochs = 3;
  const EpochPlan before({}, kImages, 8, kEpochs);
  for (std::int64_t done = 0; done <= before.end(); ++done) {
    for (const int batch : {1, 4, 7, 12, 50}) {
      CAPTURE(done);
      CAPTURE(batch);
      const Position start = before.at(done);
      const EpochPlan after(start, kImages, batch, kEpochs);
      const Sampler sampler(
          {.batch_per_worker = batch, .start_epoch = start.epoch, .epochs = kEpochs, .start_sample = start.images},
          kImages, true);
      REQUIRE(after.end() - done == sampler.batch_count());
      for (std::int64_t step = done; step < after.end(); ++step) {
        const BatchPlace place = sampler.at(step - done);
        CHECK(after.at(step).epoch == place.epoch);
        CHECK(after.at(step).images == place.first);
        CHECK(after.epochs_begun(step + 1) == place.epoch + 1);
      }
      CHECK(after.at(after.end()) == Position{after.end(), std::max(kEpochs, start.epoch), 0});
    }
  }
}

TEST_CASE("epoch plan: more epochs go on where the last one ended; fewer are over") {
  const Position end = EpochPlan({}, 50, 8, 3).at(18);
  CHECK(EpochPlan(end, 50, 8, 5).end() == 30);
  CHECK(EpochPlan(end, 50, 8, 5).at(18) == Position{18, 3, 0});
  CHECK(EpochPlan(end, 50, 8, 2).end() == 18);
}
