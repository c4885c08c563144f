#pragma once

#include <optional>
#include <vector>

#include "comm/all_reduce.h"

namespace dcs3gd::app {

/// The all-reduces that a step waited for.
class Waits {
 public:
  /// Waits for the result and lets go of the ticket.
  void wait(std::optional<comm::Ticket>& ticket);

  /// Milliseconds in wait().
  double wait_ms() const { return wait_ms_; }
  /// Milliseconds in which one of them, or several, was in flight.
  double all_reduce_ms() const;

 private:
  double wait_ms_ = 0;
  std::vector<comm::AllReduceResult> results_;
};

}  // namespace dcs3gd::app
