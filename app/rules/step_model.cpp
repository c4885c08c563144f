#include "app/rules/step_model.h"

#include <algorithm>
#include <limits>

namespace dcs3gd::app {
namespace {

/// One link that serves the most urgent of what has been handed to it.
class Link {
 public:
  Link(const std::vector<std::size_t>& urgency, const std::vector<LinkTime>& times)
      : urgency_(urgency), times_(times), done_ms_(times.size()) {}

  /// At a time not before any earlier call's.
  void hand(double now, std::size_t average) {
    serve_until(now);
    waiting_.push_back({average, times_[average].busy_ms});
  }
  /// When this average has arrived, if it was handed in. What is handed in later does not leave before that time.
  double arrival(std::size_t average) {
    while (std::ranges::find(waiting_, average, &Item::average) != waiting_.end()) serve_most_urgent(kEver);
    return done_ms_[average];
  }

 private:
  static constexpr double kEver = std::numeric_limits<double>::infinity();
  struct Item {
    std::size_t average;
    double left_ms;
  };

  void serve_until(double time) {
    while (!waiting_.empty() && now_ < time) serve_most_urgent(time);
    now_ = std::max(now_, time);
  }
  void serve_most_urgent(double until) {
    const auto next = std::ranges::min_element(waiting_, {}, [&](const Item& item) { return urgency_[item.average]; });
    const double served = std::min(next->left_ms, until - now_);
    now_ += served;
    next->left_ms -= served;
    if (next->left_ms > 0) return;
    done_ms_[next->average] = now_ + times_[next->average].delay_ms;
    waiting_.erase(next);
  }

  const std::vector<std::size_t>& urgency_;
  const std::vector<LinkTime>& times_;
  double now_ = 0;
  std::vector<Item> waiting_;
  std::vector<double> done_ms_;
};

}  // namespace

StepPlan::StepPlan(const std::vector<Average>& averages, double compute)
    : urgency(averages.size()), compute_ms(compute) {
  std::vector<std::size_t> at_the_end;
  double end_ms = 0;
  for (std::size_t i = 0; i < averages.size(); ++i) {
    if (averages[i].ends_its_step) {
      at_the_end.push_back(i);
      end_ms = std::max(end_ms, averages[i].ready_ms);
    } else {
      moments.push_back({averages[i].needed_ms, i, false});
    }
    moments.push_back({averages[i].ready_ms, i, true});
  }
  std::ranges::stable_sort(at_the_end, {}, [&](std::size_t i) { return averages[i].ready_ms; });
  for (const std::size_t i : at_the_end) moments.push_back({end_ms, i, false});
  std::ranges::stable_sort(moments, {}, &Moment::ms);
  for (std::size_t place = 0; const Moment& moment : moments) {
    if (!moment.is_send) urgency[moment.average] = place++;
  }
}

StepTimes Clocks::since(const Clocks& before, std::size_t steps) const {
  StepTimes times;
  const double count = static_cast<double>(now_ms.size() * steps);
  for (std::size_t rank = 0; rank < now_ms.size(); ++rank) {
    times.step_ms += (now_ms[rank] - before.now_ms[rank]) / count;
    times.wait_ms += (waited_ms[rank] - before.waited_ms[rank]) / count;
  }
  return times;
}

StepTimes predict_steps(const StepPlan& plan, const std::vector<LinkTime>& times, int ranks, const PaceOf& pace,
                        std::size_t warm_up, std::size_t steps) {
  Link link(plan.urgency, times);
  Clocks clocks(ranks);
  Clocks warm = clocks;
  std::vector<double> factors(clocks.now_ms.size());
  for (std::size_t step = 0; step < warm_up + steps; ++step) {
    if (step == warm_up) warm = clocks;
    for (std::size_t rank = 0; rank < factors.size(); ++rank) {
      const Pace own = pace(step, static_cast<int>(rank));
      clocks.now_ms[rank] += own.late_ms;
      factors[rank] = own.factor;
    }
    double done_ms = 0;
    const auto compute_until = [&](double ms) {
      for (std::size_t rank = 0; rank < factors.size(); ++rank) clocks.now_ms[rank] += factors[rank] * (ms - done_ms);
      done_ms = ms;
    };
    for (const Moment& moment : plan.moments) {
      compute_until(moment.ms);
      if (moment.is_send) {
        link.hand(std::ranges::max(clocks.now_ms), moment.average);
        continue;
      }
      const double arrival = link.arrival(moment.average);
      for (std::size_t rank = 0; rank < factors.size(); ++rank) {
        const double waited = std::max(0.0, arrival - clocks.now_ms[rank]);
        clocks.now_ms[rank] += waited;
        clocks.waited_ms[rank] += waited;
      }
    }
    compute_until(plan.compute_ms);
  }
  return clocks.since(warm, steps);
}

}  // namespace dcs3gd::app
