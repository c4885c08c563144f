#include "data/sampler.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "core/format.h"
#include "core/random_stream.h"

namespace dcs3gd::data {

Sampler::Sampler(const SamplePlan& plan, std::uint32_t images, bool shuffle)
    : plan_(plan), images_(images), shuffle_(shuffle && plan.part == Part::train) {
  if (plan.workers < 1 || plan.batch_per_worker < 1 || plan.workers_per_rank < 1 || plan.rank < 0 ||
      std::int64_t{plan.rank + 1} * plan.workers_per_rank > plan.workers) {
    throw Error(ErrorKind::failure, format("sample plan: rank {} with {} workers of {}, batch {}: not a valid division",
                                           plan.rank, plan.workers_per_rank, plan.workers, plan.batch_per_worker));
  }
  if (plan.part == Part::train && images_ < global_batch()) {
    throw Error(
        ErrorKind::input,
        format("training data: expected at least one global batch of {} workers x {} images = {}, found {} images; "
               "use fewer workers, a smaller algorithm.batch_per_worker or more images",
               plan.workers, plan.batch_per_worker, global_batch(), images_));
  }
  if (plan.start_sample < 0 || plan.start_sample > images_) {
    throw Error(ErrorKind::input,
                format("training data: the run is to go on behind image {} of epoch {}, found {} images; "
                       "resume with the data set that the run was started with",
                       plan.start_sample, plan.start_epoch, images_));
  }
}

std::int64_t Sampler::steps_from(std::int64_t sample) const {
  const std::int64_t left = images_ - sample;
  return plan_.part == Part::train ? left / global_batch() : (left + global_batch() - 1) / global_batch();
}

std::int64_t Sampler::batch_count() const {
  if (plan_.start_epoch >= plan_.epochs) return 0;
  const std::int64_t later_epochs = plan_.epochs - plan_.start_epoch - 1;
  return (steps_from(plan_.start_sample) + later_epochs * steps_per_epoch()) * plan_.workers_per_rank;
}

BatchPlace Sampler::at(std::int64_t index) const {
  BatchPlace place;
  place.worker = plan_.rank * plan_.workers_per_rank + static_cast<int>(index % plan_.workers_per_rank);
  place.epoch = plan_.start_epoch;
  place.step = index / plan_.workers_per_rank;
  std::int64_t start = plan_.start_sample;
  if (place.step >= steps_from(start)) {
    const std::int64_t later_step = place.step - steps_from(start);
    place.epoch += 1 + later_step / steps_per_epoch();
    place.step = later_step % steps_per_epoch();
    start = 0;
  }
  const std::int64_t first = start + place.step * global_batch() + std::int64_t{place.worker} * plan_.batch_per_worker;
  place.first = std::min(first, images_);
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
