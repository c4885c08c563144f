#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "comm/schedule/schedule.h"

namespace dcs3gd::comm {

/// The messages of a list of transfers, numbered from 0: a transfer has as many as its run has segments, or none.
class MessageNumbers {
 public:
  struct Place {
    std::size_t transfer = 0;
    std::size_t segment = 0;  ///< of the transfer
  };

  void add_transfer(std::size_t messages) { first_.push_back(count() + messages); }
  std::size_t count() const { return first_.back(); }
  /// Of a transfer, or after the last one.
  std::size_t first(std::size_t transfer) const { return first_[transfer]; }
  Place place(std::size_t message) const {
    const auto after = std::ranges::upper_bound(first_, message);
    const auto transfer = static_cast<std::size_t>(after - first_.begin()) - 1;
    return {.transfer = transfer, .segment = message - first_[transfer]};
  }

 private:
  std::vector<std::size_t> first_{0};
};

/// How many messages of the list `others` must be finished before segment `segment` of a run may start that waits for
/// the first `transfers` of them.
template <typename Transfer>
std::size_t messages_needed(const std::vector<Transfer>& others, const MessageNumbers& numbers, std::size_t transfers,
                            const Run& run, std::size_t segment) {
  if (transfers == 0) return 0;
  return others[transfers - 1].run == run ? numbers.first(transfers - 1) + segment + 1 : numbers.first(transfers);
}

}  // namespace dcs3gd::comm
