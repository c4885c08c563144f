#pragma once

#include <cstddef>
#include <vector>

#include "app/rules/gradient_buckets.h"
#include "app/rules/step_model.h"
#include "core/parameter_arena.h"
#include "nn/network.h"

namespace dcs3gd::app {

/// The first slice of the part of the model that is never stale: the longest tail of whole slices with at most this
/// share of the parameters, or one slice more where that tail has less than half of the share. 1: all of them, 0: none.
std::size_t first_fresh_slice(const ParameterLayout& layout, double share);

/// Parameters in the slices before this one; of the slice after the last one: all.
std::size_t elements_before(const ParameterLayout& layout, std::size_t slice);

/// When a step touches a slice of the parameters, in milliseconds from its start.
struct SliceTimes {
  double needed_ms = 0;  ///< forward reads its weights
  double ready_ms = 0;   ///< backward has its gradient
};

/// What decides how much of a model can be fresh without a wait.
struct StepProfile {
  std::vector<SliceTimes> slices;  ///< by number
  double compute_ms = 0;           ///< a step without communication
  double latency_ms = 0;           ///< an all-reduce takes this and …
  double ms_per_element = 0;
};

/// When a step needs and has each slice, by the fastest of some passes; the weights stay as they are.
StepProfile profile_passes(nn::Network& network, const nn::BatchView& batch);

/// What travels in a step whose slices from `first_fresh` on are fresh: their gradients in buckets, and the update of
/// the others.
std::vector<Average> averages_of_step(const ParameterLayout& layout, const StepProfile& profile,
                                      std::size_t first_fresh, std::size_t bucket_elements = kBucketElements);

/// The time of a step whose slices from `first_fresh` on are fresh: the all-reduces of its buckets share one link, on
/// which what is needed first is served first, and computing waits where something has not arrived.
double predicted_step_ms(const ParameterLayout& layout, const StepProfile& profile, std::size_t first_fresh);

/// The largest share that the link hides: whose step is predicted to take at most 2 % longer than with nothing fresh.
double hidden_fresh_share(const ParameterLayout& layout, const StepProfile& profile);

}  // namespace dcs3gd::app
