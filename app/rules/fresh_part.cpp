#include "app/rules/fresh_part.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "app/rules/gradient_buckets.h"

namespace dcs3gd::app {
namespace {

/// One link that serves the most urgent of what has been handed to it.
class Link {
 public:
  /// At a time not before any earlier call's.
  void hand(double now, std::size_t urgency, double work_ms) {
    serve_until(now);
    waiting_.emplace_back(urgency, work_ms);
  }
  /// The time at which nothing of this urgency is left.
  double wait_for(double now, std::size_t urgency) {
    serve_until(now);
    while (std::ranges::any_of(waiting_, [&](const auto& item) { return item.first == urgency; }))
      serve_most_urgent(kEver);
    return std::max(now, now_);
  }

 private:
  static constexpr double kEver = std::numeric_limits<double>::infinity();

  void serve_until(double time) {
    while (!waiting_.empty() && now_ < time) serve_most_urgent(time);
    now_ = std::max(now_, time);
  }
  void serve_most_urgent(double until) {
    const auto next = std::ranges::min_element(waiting_, {}, &std::pair<std::size_t, double>::first);
    const double served = std::min(next->second, until - now_);
    now_ += served;
    next->second -= served;
    if (next->second <= 0) waiting_.erase(next);
  }

  double now_ = 0;
  std::vector<std::pair<std::size_t, double>> waiting_;  ///< urgency and what is left of the work
};

/// Something that a step comes to.
struct Moment {
  double ms;
  std::size_t bucket;
  bool is_send;
};

}  // namespace

std::size_t first_fresh_slice(const ParameterLayout& layout, double share) {
  const std::vector<ParameterSlice>& slices = layout.slices();
  const double limit = share * static_cast<double>(layout.element_count());
  std::size_t first = slices.size();
  while (first > 0 && static_cast<double>(layout.element_count() - slices[first - 1].offset) <= limit) --first;
  return first;
}

std::size_t elements_before(const ParameterLayout& layout, std::size_t slice) {
  return slice < layout.slices().size() ? layout.slices()[slice].offset : layout.element_count();
}

double predicted_step_ms(const ParameterLayout& layout, const StepProfile& profile, std::size_t first_fresh) {
  const std::vector<ParameterSlice>& slices = layout.slices();
  std::vector<std::size_t> elements;  // by bucket
  std::vector<Moment> moments;        // of one step
  const auto add = [&](std::size_t count, double needed_ms, double ready_ms) {
    moments.push_back({needed_ms, elements.size(), false});
    moments.push_back({ready_ms, elements.size(), true});
    elements.push_back(count);
  };
  const std::size_t stale = elements_before(layout, first_fresh);
  for (const SliceRange& range : bucket_ranges(layout, {first_fresh, slices.size()}, first_fresh)) {
    double needed_ms = profile.compute_ms;
    double ready_ms = 0;
    std::size_t count = 0;
    for (std::size_t index = range.first; index < range.end; ++index) {
      needed_ms = std::min(needed_ms, profile.slices[index].needed_ms);
      ready_ms = std::max(ready_ms, profile.slices[index].ready_ms);
      count += slices[index].count;
    }
    add(count, needed_ms, ready_ms);
  }
  // Of the stale part the update is waited for after the gradient, just before the next one leaves.
  if (stale > 0) add(stale, profile.compute_ms, profile.compute_ms);
  std::ranges::stable_sort(moments, {}, &Moment::ms);
  // The most urgent is what a step needs first.
  std::vector<std::size_t> urgency(elements.size());
  for (std::size_t place = 0; const Moment& moment : moments) {
    if (!moment.is_send) urgency[moment.bucket] = place++;
  }

  constexpr int kSteps = 6;  // until it has settled
  Link link;
  double now = 0;
  double step_ms = 0;
  for (int step = 0; step < kSteps; ++step) {
    const double start = now;
    double done_ms = 0;
    for (const Moment& moment : moments) {
      now += moment.ms - done_ms;
      done_ms = moment.ms;
      const double work_ms = profile.latency_ms + profile.ms_per_element * static_cast<double>(elements[moment.bucket]);
      if (moment.is_send) {
        link.hand(now, urgency[moment.bucket], work_ms);
      } else {
        now = link.wait_for(now, urgency[moment.bucket]);
      }
    }
    now += profile.compute_ms - done_ms;
    step_ms = now - start;
  }
  return step_ms;
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

}  // namespace dcs3gd::app
