#include "app/rules/gradient_buckets.h"

#include <algorithm>

namespace dcs3gd::app {

GradientBuckets::GradientBuckets(comm::Communicator& communicator, ParameterArena& gradient, const Options& options) {
  const std::vector<ParameterSlice>& slices = gradient.layout().slices();
  for (std::size_t index = options.slices.end; index-- > options.slices.first;) {
    if (buckets_.empty() || buckets_.back().count >= options.bucket_elements || index + 1 == options.cut) {
      buckets_.push_back({.slices = {index, index + 1}});
    }
    Bucket& bucket = buckets_.back();
    bucket.slices.first = index;
    bucket.count += slices[index].count;
    ++bucket.missing;
  }
  for (Bucket& bucket : buckets_) {
    bucket.plan = communicator.plan_all_reduce(
        {.values = gradient.values().subspan(slices[bucket.slices.first].offset, bucket.count),
         .factor = options.factor,
         .group = options.group,
         .urgency = static_cast<int>(bucket.slices.first)});
  }
}

GradientBuckets::Bucket& GradientBuckets::bucket_of(std::size_t slice) {
  return *std::ranges::find_if(buckets_, [&](const Bucket& bucket) { return bucket.slices.first <= slice; });
}

void GradientBuckets::slice_ready(std::size_t slice) {
  Bucket& bucket = bucket_of(slice);
  if (--bucket.missing > 0) return;
  bucket.missing = bucket.slices.end - bucket.slices.first;
  bucket.ticket = bucket.plan->start();
}

bool GradientBuckets::is_in_flight() const {
  return std::ranges::any_of(buckets_, [](const Bucket& bucket) { return bucket.ticket.has_value(); });
}

SliceRange GradientBuckets::receive(std::size_t slice, Waits& waits) {
  Bucket& bucket = bucket_of(slice);
  if (!bucket.ticket) return {};
  waits.wait(bucket.ticket);
  return bucket.slices;
}

}  // namespace dcs3gd::app
