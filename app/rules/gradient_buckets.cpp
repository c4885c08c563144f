#include "app/rules/gradient_buckets.h"

#include <algorithm>

namespace dcs3gd::app {

std::vector<SliceRange> bucket_ranges(const ParameterLayout& layout, SliceRange slices, std::size_t cut,
                                      std::size_t bucket_elements) {
  std::vector<SliceRange> ranges;
  std::size_t count = 0;  // elements of the last one
  for (std::size_t index = slices.end; index-- > slices.first;) {
    if (ranges.empty() || count >= bucket_elements || index + 1 == cut) {
      ranges.push_back({index, index + 1});
      count = 0;
    }
    ranges.back().first = index;
    count += layout.slices()[index].count;
  }
  return ranges;
}

GradientBuckets::GradientBuckets(comm::Communicator& communicator, ParameterArena& gradient, const Options& options)
    : slices_(gradient.layout().slices()) {
  for (const SliceRange& range :
       bucket_ranges(gradient.layout(), options.slices, options.cut, options.bucket_elements)) {
    const ParameterSlice& last = slices_[range.end - 1];
    const std::size_t first = slices_[range.first].offset;
    const std::size_t count = last.offset + last.count - first;
    buckets_.push_back(
        {.slices = range,
         .missing = range.end - range.first,
         .plan = communicator.plan_all_reduce(
             {.values = gradient.values().subspan(first, count),
              .factor = options.factor,
              .group = options.group,
              .leaves_parts = options.leaves_parts,
              .urgency = static_cast<int>(range.first),
              .losses = options.losses.empty() ? options.losses : options.losses.subspan(first, count)})});
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
