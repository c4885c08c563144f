#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <optional>

#include "comm/transport.h"

namespace dcs3gd::comm {

/// The messages in flight in one direction: numbered from 0 in the order they are posted, finished in the same order,
/// at most kSlots at a time. The progress thread drives it; finished() and in_flight() may be asked from any thread.
class TransferWindow {
 public:
  /// While one segment is worked on the next ones travel, and a late look does not leave the link idle.
  static constexpr std::size_t kSlots = 4;

  std::size_t posted() const { return posted_; }
  std::size_t finished() const { return finished_; }
  bool in_flight() const { return finished_ < posted_; }
  bool has_room() const { return posted_ < finished_ + kSlots; }

  void post(Transport::Request request) {
    requests_[posted_ % kSlots] = request;
    ++posted_;
  }

  /// Numbers begin at 0 again. Only when nothing is in flight.
  void clear() { posted_ = finished_ = 0; }

  /// The number of the oldest message if it is complete now.
  std::optional<std::size_t> finish_oldest(Transport& transport) {
    if (!in_flight() || !transport.test(requests_[finished_ % kSlots])) return std::nullopt;
    return finished_++;
  }

 private:
  std::array<Transport::Request, kSlots> requests_{};
  std::atomic<std::size_t> posted_ = 0;
  std::atomic<std::size_t> finished_ = 0;
};

}  // namespace dcs3gd::comm
