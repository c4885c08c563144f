#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace dcs3gd::comm {

/// All ranks of a job, or some of them, as one of them sees them: their number, their hosts, and who comes after whom
/// in the ring. Some ranks, or ranks in another order, are numbered anew, from 0; member() tells who they are.
class Topology {
 public:
  /// `hosts`: one name per rank, or empty while they are unknown. `ranks_per_host`: so many consecutive ranks count as
  /// a host, whatever it is called; none: as the hosts are called.
  Topology(int rank, int size, std::vector<std::string> hosts = {}, std::optional<int> ranks_per_host = {})
      : rank_(rank), size_(size), hosts_(std::move(hosts)), ranks_per_host_(ranks_per_host) {}
  /// The ranks `members` of it in this order, with its own among them.
  Topology part(std::vector<int> members) const;

  int rank() const { return rank_; }
  int size() const { return size_; }
  const std::vector<std::string>& hosts() const { return hosts_; }
  /// The same ranks as another of them sees them.
  Topology seen_from(int rank) const;
  /// The ranks of each host, ascending; hosts in the order of their first ranks. While they are unknown there is one.
  std::vector<std::vector<int>> ranks_by_host() const;
  /// All ranks, numbered so that those of a host are neighbours.
  Topology host_by_host() const;
  /// The number that a rank has in the job.
  int member(int rank) const { return members_.empty() ? rank : members_[static_cast<std::size_t>(rank)]; }

  /// The rank `distance` places to the left in the ring of all ranks: rank − distance. Any distance, also negative.
  int rank_left(std::ptrdiff_t distance = 1) const {
    const std::ptrdiff_t place = (rank_ - distance) % size_;
    return static_cast<int>(place < 0 ? place + size_ : place);
  }
  int rank_right(std::ptrdiff_t distance = 1) const { return rank_left(-distance); }
  /// The `count` nearest ranks to the left, at most all others.
  std::vector<int> ranks_left(std::size_t count) const;

  /// "rank 3 on node7".
  std::string describe(int rank) const;
  /// "nothing comes from rank 2 on ash, which may be waiting for rank 1 on elm". Of `ranks` the first is the sender,
  /// the others those it depends on, the nearest first. Of many only the sender, the furthest, and a count.
  std::string nothing_comes_from(std::span<const int> ranks) const;

 private:
  int rank_;
  int size_;
  std::vector<std::string> hosts_;
  std::optional<int> ranks_per_host_;
  std::vector<int> members_;  ///< empty: all ranks of the job, in their order
};

}  // namespace dcs3gd::comm
