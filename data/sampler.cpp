#include "data/sampler.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "core/format.h"
#include "core/random_stream.h"

namespace dcs3gd::data {
namespace {

std::int64_t global_batch(const SamplePlan& plan) { return std::int64_t{plan.workers} * plan.batch_per_worker; }

/// Checks the plan. The last global batch of an evaluation may be shorter: the epoch is rounded up to whole ones.
EpochPlan epochs_of(const SamplePlan& plan, std::int64_t images) {
  if (plan.workers < 1 || plan.batch_per_worker < 1 || plan.workers_per_rank < 1 || plan.rank < 0 ||
      std::int64_t{plan.rank + 1} * plan.workers_per_rank > plan.workers) {
    throw Error(ErrorKind::failure, format("sample plan: rank {} with {} workers of {}, batch {}: not a valid division",
                                           plan.rank, plan.workers_per_rank, plan.workers, plan.batch_per_worker));
  }
  const std::int64_t batch = global_batch(plan);
  if (plan.part == Part::train && images < batch) {
    throw Error(
        ErrorKind::input,
        format("training data: expected at least one global batch of {} workers x {} images = {}, found {} images; "
               "use fewer workers, a smaller algorithm.batch_per_worker or more images",
               plan.workers, plan.batch_per_worker, batch, images));
  }
  if (plan.start_sample < 0 || plan.start_sample > images) {
    throw Error(ErrorKind::input,
                format("training data: the run is to go on after image {} of epoch {}, found {} images; "
                       "resume with the data set that the run was started with",
                       plan.start_sample, plan.start_epoch, images));
  }
  const std::int64_t read = plan.part == Part::train ? images : (images + batch - 1) / batch * batch;
  return {{.step = 0, .epoch = plan.start_epoch, .images = plan.start_sample}, read, batch, plan.epochs};
}

}  // namespace

Sampler::Sampler(const SamplePlan& plan, std::uint32_t images, bool shuffle)
    : plan_(plan), images_(images), epochs_(epochs_of(plan, images)), shuffle_(shuffle && plan.part == Part::train) {}

BatchPlace Sampler::at(std::int64_t index) const {
  const Position position = epochs_.at(index / plan_.workers_per_rank);
  const std::int64_t start = position.epoch == plan_.start_epoch ? plan_.start_sample : 0;
  BatchPlace place;
  place.worker = plan_.rank * plan_.workers_per_rank + static_cast<int>(index % plan_.workers_per_rank);
  place.epoch = position.epoch;
  place.step = (position.images - start) / global_batch(plan_);
  place.first = std::min(position.images + std::int64_t{place.worker} * plan_.batch_per_worker, images_);
  place.count = static_cast<int>(std::min<std::int64_t>(plan_.batch_per_worker, images_ - place.first));
  return place;
}

std::vector<std::uint32_t> Sampler::order(std::int64_t epoch) const {
  std::vector<std::uint32_t> order(static_cast<std::size_t>(images_));
  std::iota(order.begin(), order.end(), 0U);
  if (shuffle_) {
    RandomStream random(plan_.seed, RandomPurpose::shuffle, static_cast<std::uint64_t>(epoch));
    dcs3gd::shuffle(order, random);
  }
  return order;
}

}  // namespace dcs3gd::data
