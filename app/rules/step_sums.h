#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "app/rules/update_rule.h"

namespace dcs3gd::app {

/// The numbers of a step that travel with the reduced array, in fp32 on any wire: each rank puts in the sums over its
/// workers and gets the sums over all workers.
struct StepSums {
  float loss = 0;
  float non_finite = 0;        ///< workers whose gradient was NaN or Inf
  float non_finite_model = 0;  ///< ranks with such a worker that found NaN or Inf in the mean model
  float gradient_norm = 0;
  float lambda = 0;
  float distance_norm = 0;
  float distance_squared = 0;
  float along = 0;  ///< ⟨g, D⟩
  Tail tail = {};

  std::span<float> as_span() { return {&loss, sizeof(StepSums) / sizeof(float)}; }
};
static_assert(sizeof(StepSums) == (8 + std::tuple_size_v<Tail>)*sizeof(float), "as_span() needs floats without gaps");

/// Throws Error{diverged} if a gradient was not finite or the mean loss is above its limit, Error{failure} if the mean
/// model of some ranks alone was not finite. The sums are the same on all ranks, so all of them stop at the same step.
void throw_if_diverged(std::int64_t step, const StepSums& sums, int workers, int ranks,
                       std::optional<double> loss_limit);

/// Fills in the means over the workers, and the tail.
void complete(StepReport& report, const StepSums& sums, int workers);

}  // namespace dcs3gd::app
