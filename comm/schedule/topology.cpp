#include "comm/schedule/topology.h"

#include <algorithm>
#include <map>

#include "core/format.h"

namespace dcs3gd::comm {

Topology Topology::part(std::vector<int> members) const {
  const auto own = std::ranges::find(members, rank_);
  Topology part(static_cast<int>(own - members.begin()), static_cast<int>(members.size()), {}, ranks_per_host_);
  for (const int rank : members) {
    if (!hosts_.empty()) part.hosts_.push_back(hosts_[static_cast<std::size_t>(rank)]);
  }
  part.members_ = std::move(members);
  return part;
}

Topology Topology::seen_from(int rank) const {
  Topology other = *this;
  other.rank_ = rank;
  return other;
}

std::vector<std::vector<int>> Topology::ranks_by_host() const {
  std::vector<std::vector<int>> by_host;
  std::map<std::string, std::size_t> numbers;
  for (int rank = 0; rank < size_; ++rank) {
    const std::string host = ranks_per_host_  ? format("{}", member(rank) / *ranks_per_host_)
                             : hosts_.empty() ? std::string()
                                              : hosts_[static_cast<std::size_t>(rank)];
    const std::size_t number = numbers.try_emplace(host, by_host.size()).first->second;
    if (number == by_host.size()) by_host.emplace_back();
    by_host[number].push_back(rank);
  }
  return by_host;
}

Topology Topology::host_by_host() const {
  std::vector<int> order;
  order.reserve(static_cast<std::size_t>(size_));
  for (const std::vector<int>& ranks : ranks_by_host()) order.insert(order.end(), ranks.begin(), ranks.end());
  return part(std::move(order));
}

std::vector<int> Topology::ranks_left(std::size_t count) const {
  std::vector<int> ranks(std::min(count, static_cast<std::size_t>(size_ - 1)));
  for (std::size_t i = 0; i < ranks.size(); ++i) ranks[i] = rank_left(static_cast<std::ptrdiff_t>(i + 1));
  return ranks;
}

std::string Topology::describe(int rank) const {
  if (hosts_.empty()) return format("rank {}", member(rank));
  return format("rank {} on {}", member(rank), hosts_[static_cast<std::size_t>(rank)]);
}

std::string Topology::nothing_comes_from(std::span<const int> ranks) const {
  constexpr std::size_t kMostNames = 4;
  std::string text = format("nothing comes from {}", describe(ranks.front()));
  if (ranks.size() > kMostNames) {
    return text + format(", which may be waiting for any of {} ranks, the furthest {}", ranks.size() - 1,
                         describe(ranks.back()));
  }
  for (std::size_t i = 1; i < ranks.size(); ++i) {
    text += format("{} {}", i == 1 ? ", which may be waiting for" : " or", describe(ranks[i]));
  }
  return text;
}

}  // namespace dcs3gd::comm
