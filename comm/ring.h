#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace dcs3gd::comm {

/// A rank's place in the ring of all ranks: it sends to the right (rank + 1) and receives from the left (rank − 1).
class Ring {
 public:
  /// `hosts`: one name per rank, or empty while they are unknown.
  Ring(int rank, int size, std::vector<std::string> hosts = {}) : rank_(rank), size_(size), hosts_(std::move(hosts)) {}

  int rank() const { return rank_; }
  int size() const { return size_; }
  const std::vector<std::string>& hosts() const { return hosts_; }
  int right() const { return behind(-1); }
  int left() const { return behind(1); }
  /// The rank `distance` places to the left; any distance, also negative.
  int behind(std::ptrdiff_t distance) const {
    const std::ptrdiff_t place = (rank_ - distance) % size_;
    return static_cast<int>(place < 0 ? place + size_ : place);
  }

  /// "rank 3 on node7".
  std::string describe(int rank) const;
  /// Who may be missing when nothing comes from the left at `step` (from 0): what is passed on at step i was begun by
  /// the rank i places further left, so every rank in between may be waiting itself.
  std::string missing_on_the_left(std::size_t step) const;

 private:
  int rank_;
  int size_;
  std::vector<std::string> hosts_;
};

}  // namespace dcs3gd::comm
