#include "app/rules/fresh_part.h"

#include <algorithm>

#include "core/stopwatch.h"

namespace dcs3gd::app {
std::size_t first_fresh_slice(const ParameterLayout& layout, double share) {
  const std::vector<ParameterSlice>& slices = layout.slices();
  const double limit = share * static_cast<double>(layout.element_count());
  const auto tail = [&](std::size_t first) {
    return static_cast<double>(layout.element_count() - elements_before(layout, first));
  };
  std::size_t first = slices.size();
  while (first > 0 && tail(first - 1) <= limit) --first;
  // One slice may hold most of the model, as LeNet-5's first linear layer does, or a classifier alone.
  return first > 0 && tail(first) < limit / 2 ? first - 1 : first;
}

std::size_t elements_before(const ParameterLayout& layout, std::size_t slice) {
  return slice < layout.slices().size() ? layout.slices()[slice].offset : layout.element_count();
}

std::vector<Average> averages_of_step(const ParameterLayout& layout, const StepProfile& profile,
                                      std::size_t first_fresh, std::size_t bucket_elements) {
  const std::vector<ParameterSlice>& slices = layout.slices();
  std::vector<Average> averages;
  for (const SliceRange& range : bucket_ranges(layout, {first_fresh, slices.size()}, first_fresh, bucket_elements)) {
    Average average{.needed_ms = profile.compute_ms};
    for (std::size_t index = range.first; index < range.end; ++index) {
      average.needed_ms = std::min(average.needed_ms, profile.slices[index].needed_ms);
      average.ready_ms = std::max(average.ready_ms, profile.slices[index].ready_ms);
      average.elements += slices[index].count;
    }
    averages.push_back(average);
  }
  // Of the stale part the update is waited for after the gradient, just before the next one leaves.
  const std::size_t stale = elements_before(layout, first_fresh);
  if (stale > 0) {
    averages.push_back({.elements = stale, .needed_ms = profile.compute_ms, .ready_ms = profile.compute_ms});
  }
  return averages;
}

double predicted_step_ms(const ParameterLayout& layout, const StepProfile& profile, std::size_t first_fresh) {
  constexpr std::size_t kStepsUntilSettled = 5;
  const std::vector<Average> averages = averages_of_step(layout, profile, first_fresh);
  std::vector<LinkTime> times;
  times.reserve(averages.size());
  for (const Average& average : averages) {
    times.push_back({.busy_ms = profile.latency_ms + profile.ms_per_element * static_cast<double>(average.elements)});
  }
  const PaceOf as_planned = [](std::size_t, int) { return Pace(); };
  return predict_steps({averages, profile.compute_ms}, times, 1, as_planned, kStepsUntilSettled, 1).step_ms;
}

double hidden_fresh_share(const ParameterLayout& layout, const StepProfile& profile) {
  constexpr double kTolerance = 0.02;
  const std::size_t slices = layout.slices().size();
  const double limit_ms = (1 + kTolerance) * predicted_step_ms(layout, profile, slices);
  std::size_t first = 0;
  while (first < slices && predicted_step_ms(layout, profile, first) > limit_ms) ++first;
  const std::size_t stale = elements_before(layout, first);
  if (stale == 0) return 1;
  // Half a parameter more, so that rounding does not lose a slice.
  const double fresh = static_cast<double>(layout.element_count() - stale);
  return fresh == 0 ? 0 : (fresh + 0.5) / static_cast<double>(layout.element_count());
}

StepProfile profile_passes(nn::Network& network, const nn::BatchView& batch) {
  constexpr int kPasses = 4;  // the first one warms up
  ParameterArena gradient(network.parameter_layout());
  const std::vector<ParameterSlice>& slices = network.parameter_layout()->slices();
  StepProfile best;
  for (int pass = 0; pass < kPasses; ++pass) {
    StepProfile profile{.slices = std::vector<SliceTimes>(slices.size())};
    const Stopwatch watch;
    const auto times_of = [&](const ParameterSlice& slice) -> SliceTimes& {
      return profile.slices[static_cast<std::size_t>(&slice - slices.data())];
    };
    network.compute_gradient(
        batch, {}, gradient,
        {.on_weights_needed = [&](const ParameterSlice& slice) { times_of(slice).needed_ms = watch.elapsed_ms(); },
         .on_gradient_ready = [&](const ParameterSlice& slice) { times_of(slice).ready_ms = watch.elapsed_ms(); }});
    profile.compute_ms = watch.elapsed_ms();
    if (pass == 1 || (pass > 1 && profile.compute_ms < best.compute_ms)) best = profile;
  }
  return best;
}

}  // namespace dcs3gd::app
