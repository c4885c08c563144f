#include "app/rules/gradient_buckets.h"

#include <algorithm>

namespace dcs3gd::app {

GradientBuckets::GradientBuckets(comm::Communicator& communicator, ParameterArena& gradient, std::span<float> tail,
                                 float factor, std::size_t bucket_elements)
    : tail_plan_(communicator.plan_all_reduce({.values = {}, .tail = tail})) {
  const std::vector<ParameterSlice>& slices = gradient.layout().slices();
  for (std::size_t index = slices.size(); index-- > 0;) {
    const ParameterSlice& slice = slices[index];
    if (buckets_.empty() || buckets_.back().count >= bucket_elements) buckets_.emplace_back();
    Bucket& bucket = buckets_.back();
    bucket.first = slice.offset;
    bucket.count += slice.count;
    bucket.missing = ++bucket.slices;
  }
  for (Bucket& bucket : buckets_) {
    bucket.plan = communicator.plan_all_reduce(
        {.values = gradient.values().subspan(bucket.first, bucket.count), .factor = factor});
  }
}

GradientBuckets::Bucket& GradientBuckets::bucket_of(const ParameterSlice& slice) {
  return *std::ranges::find_if(buckets_, [&](const Bucket& bucket) { return bucket.first <= slice.offset; });
}

void GradientBuckets::slice_ready(const ParameterSlice& slice) {
  Bucket& bucket = bucket_of(slice);
  if (--bucket.missing > 0) return;
  bucket.missing = bucket.slices;
  tickets_.push_back(bucket.plan->start());
}

double GradientBuckets::finish() {
  tickets_.push_back(tail_plan_.start());
  double all_reduce_ms = 0;
  double end_ms = 0;  // of all up to here: those that were in flight together count once
  for (comm::Ticket& ticket : tickets_) {
    const comm::AllReduceResult result = ticket.wait();
    const double start_ms = std::max(result.start_ms, end_ms);
    end_ms = std::max(end_ms, result.start_ms + result.all_reduce_ms);
    all_reduce_ms += std::max(0.0, end_ms - start_ms);
  }
  tickets_.clear();
  return all_reduce_ms;
}

}  // namespace dcs3gd::app
