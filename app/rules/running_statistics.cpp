#include "app/rules/running_statistics.h"

#include <algorithm>

#include "core/vector_math.h"

namespace dcs3gd::app {
namespace {

constexpr float kMomentum = 0.1F;

}  // namespace

RunningStatistics::RunningStatistics(std::shared_ptr<const ParameterLayout> layout)
    : local_(layout), step_sum_(std::move(layout)) {}

void RunningStatistics::add(const ParameterArena& batch_statistics) {
  dcs3gd::add(batch_statistics.values(), step_sum_.values());
  ++passes_;
}

void RunningStatistics::advance() {
  const std::span<float> sum = step_sum_.values();
  const std::span<float> running = local_.values();
  const float share = kMomentum / static_cast<float>(passes_);
  for (std::size_t i = 0; i < running.size(); ++i) running[i] = (1 - kMomentum) * running[i] + share * sum[i];
  std::ranges::fill(sum, 0.0F);
  passes_ = 0;
}

void RunningStatistics::average(comm::Communicator& communicator, ParameterArena& mean) const {
  std::ranges::copy(local_.values(), mean.values().begin());
  // Always fp32: what is saved and evaluated does not depend on the wire's format.
  communicator.plan_all_reduce({.values = mean.values(), .wire = comm::Wire::fp32}).start().wait();
}

}  // namespace dcs3gd::app
