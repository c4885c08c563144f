#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "comm/communicator.h"

namespace dcs3gd::app {

/// Finds replicas of the mean model that are no longer the same bits on all ranks, as memory errors and faulty
/// transports leave them. Each step looks at one of kParts equal parts: numbers made of its hash travel with the step,
/// and their sums are 0 if all ranks have the same. Not thread-safe.
class ReplicaGuard {
 public:
  static constexpr std::int64_t kParts = 64;
  using Numbers = std::array<float, 2>;

  explicit ReplicaGuard(const comm::Communicator& communicator) : weight_(weight_of(communicator)) {}

  /// What this rank adds to the sums of step `step`; `replica` is what must be the same on all ranks.
  Numbers look_at(std::int64_t step, std::span<const float> replica);
  /// What was looked at last, as text: the same on all ranks that have the same bits.
  const std::string& seen() const { return seen_; }

 private:
  static float weight_of(const comm::Communicator& communicator);

  float weight_;  ///< of this rank's hash: those of all ranks add up to 0
  std::string seen_;
};

}  // namespace dcs3gd::app
