#pragma once

#include <cstddef>
#include <functional>
#include <vector>

/// A model of training steps in time: ranks that compute at their own pace, and averages over them that share a link.
namespace dcs3gd::app {

/// An average over the ranks that travels once a step. Times from the start of a step that waits for nothing.
struct Average {
  std::size_t elements = 0;
  double needed_ms = 0;        ///< the next step waits for it
  double ready_ms = 0;         ///< it leaves
  bool ends_its_step = false;  ///< it is waited for when all such have left, in its own step; `needed_ms` says nothing
};

/// A place that a step comes to: an average leaves, or is waited for.
struct Moment {
  double ms = 0;
  std::size_t average = 0;
  bool is_send = false;
};

/// What every rank does in each step: the moments in their order, and how long it computes.
struct StepPlan {
  StepPlan(const std::vector<Average>& averages, double compute_ms);

  std::vector<Moment> moments;
  std::vector<std::size_t> urgency;  ///< by average: the first that is waited for is the most urgent, 0
  double compute_ms;
};

/// A step of one rank: held up before it begins, and so many times as long as planned.
struct Pace {
  double late_ms = 0;
  double factor = 1;
};
using PaceOf = std::function<Pace(std::size_t step, int rank)>;

/// What an all-reduce alone takes: the time that it keeps a rank's link (or whatever else is the bound) busy, and the
/// rest, in which others may use the link.
struct LinkTime {
  double busy_ms = 0;
  double delay_ms = 0;
};

/// Means over ranks and steps.
struct StepTimes {
  double step_ms = 0;
  double wait_ms = 0;
};

/// A time in the clocks of all ranks, and what they have waited.
struct Clocks {
  explicit Clocks(int ranks) : now_ms(static_cast<std::size_t>(ranks)), waited_ms(now_ms.size()) {}
  /// What a mean step of `steps` took since `before`.
  StepTimes since(const Clocks& before, std::size_t steps) const;

  std::vector<double> now_ms;
  std::vector<double> waited_ms;
};

/// Carries out steps of all ranks, `warm_up` of them before it counts. An all-reduce begins when the last rank has
/// started it and ends on all at once; the link serves the most urgent of those that have begun. `times` by average.
StepTimes predict_steps(const StepPlan& plan, const std::vector<LinkTime>& times, int ranks, const PaceOf& pace,
                        std::size_t warm_up, std::size_t steps);

}  // namespace dcs3gd::app
