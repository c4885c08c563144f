#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "comm/communicator.h"
#include "core/parameter_arena.h"

namespace dcs3gd::app {

/// Averages a gradient over all workers while backward still computes it: the flat array is cut, from its end, into
/// buckets of whole slices; a bucket travels as soon as its last slice is final. All ranks see the slices in the same
/// order, that of the planned network, and so start the same all-reduces in the same order.
class GradientBuckets {
 public:
  /// A bucket takes further slices until it has this many elements: large enough that the ring runs at its bandwidth,
  /// small enough that the first bucket leaves early.
  static constexpr std::size_t kBucketElements = std::size_t{1} << 21;

  /// Of `gradient`, and of a few floats that are summed with it in each step.
  GradientBuckets(comm::Communicator& communicator, ParameterArena& gradient, std::span<float> tail, float factor,
                  std::size_t bucket_elements = kBucketElements);

  /// A slice of the gradient is final. The first slice of a step begins the step.
  void slice_ready(const ParameterSlice& slice);
  /// All slices are final, and so is the tail: sends it and waits until everything is averaged. Returns the
  /// milliseconds in which an all-reduce was in flight.
  double finish();

 private:
  struct Bucket {
    std::size_t first = 0;  ///< element
    std::size_t count = 0;
    int slices = 0;
    int missing = 0;  ///< slices of this step that are not final yet
    std::optional<comm::AllReducePlan> plan = {};
  };

  Bucket& bucket_of(const ParameterSlice& slice);

  comm::AllReducePlan tail_plan_;
  std::vector<Bucket> buckets_;        ///< from the end of the array to its start
  std::vector<comm::Ticket> tickets_;  ///< of this step
};

}  // namespace dcs3gd::app
