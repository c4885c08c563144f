#pragma once

#include <memory>
#include <optional>

#include "app/rules/step_sums.h"
#include "comm/communicator.h"
#include "core/parameter_arena.h"

namespace dcs3gd::app {

/// One average over all workers that is in flight while the rank computes: an array, and the sums of its step.
class Exchange {
 public:
  /// Averages over `workers` workers, whose values a rank adds up first.
  Exchange(comm::Communicator& communicator, std::shared_ptr<const ParameterLayout> layout, int workers);
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  /// Before start() the sum over this rank's workers; after finish() the mean over all. In between the all-reduce's.
  ParameterArena& values() { return values_; }
  const ParameterArena& values() const { return values_; }
  /// Sends the values and the sums.
  void start(const StepSums& sums);
  bool is_in_flight() const { return ticket_.has_value(); }
  /// REQUIRES is_in_flight(). Waits; returns the milliseconds that the all-reduce took.
  double finish();
  /// After finish(): over all workers.
  const StepSums& sums() const { return sums_; }

 private:
  ParameterArena values_;
  StepSums sums_;
  comm::AllReducePlan plan_;  ///< of the two above
  std::optional<comm::Ticket> ticket_;
};

}  // namespace dcs3gd::app
