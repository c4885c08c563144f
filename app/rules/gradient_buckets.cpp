#include "app/rules/gradient_buckets.h"

#include <algorithm>

namespace dcs3gd::app {

GradientBuckets::GradientBuckets(comm::Communicator& communicator, const ParameterLayout& layout, float factor,
                                 std::size_t bucket_elements)
    : communicator_(communicator), factor_(factor) {
  const std::vector<ParameterSlice>& slices = layout.slices();
  for (std::size_t index = slices.size(); index-- > 0;) {
    const ParameterSlice& slice = slices[index];
    if (buckets_.empty() || buckets_.back().count >= bucket_elements) buckets_.emplace_back();
    Bucket& bucket = buckets_.back();
    bucket.first = slice.offset;
    bucket.count += slice.count;
    bucket.missing = ++bucket.slices;
  }
}

GradientBuckets::Bucket& GradientBuckets::bucket_of(const ParameterSlice& slice) {
  return *std::ranges::find_if(buckets_, [&](const Bucket& bucket) { return bucket.first <= slice.offset; });
}

void GradientBuckets::slice_ready(ParameterArena& gradient, const ParameterSlice& slice) {
  Bucket& bucket = bucket_of(slice);
  if (--bucket.missing > 0) return;
  bucket.missing = bucket.slices;
  if (++sent_ == buckets_.size()) {
    held_back_ = &bucket;
    return;
  }
  tickets_.push_back(communicator_.start_all_reduce(
      {.values = gradient.values().subspan(bucket.first, bucket.count), .factor = factor_}));
}

double GradientBuckets::finish(ParameterArena& gradient, std::span<float> extras) {
  tickets_.push_back(
      communicator_.start_all_reduce({.values = gradient.values().subspan(held_back_->first, held_back_->count),
                                      .extras = extras,
                                      .factor = factor_}));
  double all_reduce_ms = 0;
  for (comm::Ticket& ticket : tickets_) all_reduce_ms += ticket.wait().all_reduce_ms;
  tickets_.clear();
  sent_ = 0;
  return all_reduce_ms;
}

}  // namespace dcs3gd::app
