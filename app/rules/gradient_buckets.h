#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "app/rules/waits.h"
#include "comm/communicator.h"
#include "core/parameter_arena.h"

namespace dcs3gd::app {

/// Slices [first, end) of a layout, by number.
struct SliceRange {
  std::size_t first = 0;
  std::size_t end = 0;
};

/// A bucket takes further slices until it has this many elements: large enough that the ring runs at its bandwidth,
/// small enough that the first bucket leaves early.
constexpr std::size_t kBucketElements = std::size_t{1} << 19;

/// The buckets that these slices are cut into, from the last slice to the first; none holds slices from both sides of
/// `cut`.
std::vector<SliceRange> bucket_ranges(const ParameterLayout& layout, SliceRange slices, std::size_t cut,
                                      std::size_t bucket_elements = kBucketElements);

/// Averages a gradient over ranks while backward still computes it: the flat array is cut, from its end, into buckets
/// of whole slices; a bucket travels as soon as its last slice is final. All ranks see the slices in the same order,
/// that of the planned network, and so start the same all-reduces in the same order. What forward needs first is served
/// first.
class GradientBuckets {
 public:
  struct Options {
    SliceRange slices;             ///< of the gradient, which are averaged
    std::size_t cut = 0;           ///< as in bucket_ranges()
    float factor = 1;              ///< of the sum
    bool leaves_parts = false;     ///< the averages are read by for_each_part() alone
    std::span<float> losses = {};  ///< of the whole gradient, as in comm::AllReduceSpec; or none
    comm::Group group = comm::Group::all;
    std::size_t bucket_elements = kBucketElements;
  };

  GradientBuckets(comm::Communicator& communicator, ParameterArena& gradient, const Options& options);

  /// A slice of the gradient is final.
  void slice_ready(std::size_t slice);
  bool is_in_flight() const;
  /// Waits for the bucket that this slice is in. Returns the slices that have been averaged now: none if the bucket is
  /// not in flight.
  SliceRange receive(std::size_t slice, Waits& waits);
  /// Calls use(how many elements after the slice's first it begins, averages) for each part of a slice that has been
  /// received.
  template <typename Use>
  void for_each_part(std::size_t slice, const Use& use);

 private:
  struct Bucket {
    SliceRange slices;
    std::size_t missing = 0;  ///< slices of this step that are not final yet
    std::optional<comm::AllReducePlan> plan = {};
    std::optional<comm::Ticket> ticket = {};
  };

  Bucket& bucket_of(std::size_t slice);

  const std::vector<ParameterSlice>& slices_;
  std::vector<Bucket> buckets_;  ///< from the end of the array to its start
};

template <typename Use>
void GradientBuckets::for_each_part(std::size_t slice, const Use& use) {
  const Bucket& bucket = bucket_of(slice);
  bucket.plan->for_each_part(slices_[slice].offset - slices_[bucket.slices.first].offset, slices_[slice].count, use);
}

}  // namespace dcs3gd::app
