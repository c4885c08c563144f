#include <algorithm>
#include <utility>
#include <vector>

#include "comm/schedule/schedule.h"

namespace dcs3gd::comm {
namespace {

/// How the chunks are dealt out: each host to its ranks, and all of them to the hosts.
class Shares {
 public:
  Shares(std::size_t chunks, std::vector<std::vector<int>> hosts) : chunks_(chunks), hosts_(std::move(hosts)) {}

  std::size_t host_count() const { return hosts_.size(); }
  const std::vector<int>& host(std::size_t number) const { return hosts_[number % hosts_.size()]; }

  /// What the rank at `place` of a host of `ranks` has to do with.
  Run of(std::size_t ranks, std::size_t place) const {
    const std::size_t first = chunks_ * place / ranks;
    const std::size_t end = chunks_ * (place + 1) / ranks;
    return {.chunk = static_cast<int>(first), .chunks = static_cast<int>(end - first), .exact = hosts_.size() > 1};
  }
  /// The rank of a host that has a chunk in its share.
  int holder(std::size_t host_number, std::size_t chunk) const {
    const std::vector<int>& ranks = host(host_number);
    return ranks[((chunk + 1) * ranks.size() - 1) / chunks_];
  }
  /// The chunks of a share whose sums a host finishes.
  std::vector<int> finished_by(std::size_t host_number, const Run& share) const {
    std::vector<int> chunks;
    for (int chunk = share.chunk; chunk < share.chunk + share.chunks; ++chunk) {
      if (static_cast<std::size_t>(chunk) % hosts_.size() == host_number % hosts_.size()) chunks.push_back(chunk);
    }
    return chunks;
  }

 private:
  std::size_t chunks_;
  std::vector<std::vector<int>> hosts_;
};

}  // namespace

// Hosts first: what crosses the network is summed within each host before, and comes once to each host.
//
//   host A  rank 0 [ a0 | a1 | a2 | a3 ]    step 1: within each host, everyone with everyone: a host's ranks have equal
//           rank 1 [ b0 | b1 | b2 | b3 ]            shares, and each gets its host's sums of its share: rank 0 has
//   host B  rank 2 [ c0 | c1 | c2 | c3 ]            a0 + b0 and a1 + b1, rank 2 c0 + d0 and c1 + d1, …
//           rank 3 [ d0 | d1 | d2 | d3 ]    step 2: between the hosts, those who have the same chunk: of H hosts host h
//                                                   finishes chunks h, h + H, …: rank 0 gets c0 + d0 from rank 2 and
//                                                   sends it a1 + b1
//                                           step 3: who has finished a chunk sends it to the same ranks
//                                           step 4: within each host, everyone sends its share to everyone
//
// Hosts may have different numbers of ranks: then their shares differ, and a chunk has another holder on each.
//
// Cost per rank on H hosts of m ranks: 4 steps, 2(m−1)/m · P elements sent to neighbours in 2(m−1) messages, and
// 2(H−1)/H · P/m over the network in 2(H−1); as many received. A host sends 2(H−1)/H · P, whatever m is, where the ring
// sends 2(N−1)/N · P. Within a host all travel in fp32, so that on the bf16 wire a host's sum is rounded once, and the
// sum of all once more. On one host, and on hosts of one rank, this is the direct exchange.
Schedule hierarchical(const Topology& topology) {
  using Action = Receive::Action;
  const Shares shares(static_cast<std::size_t>(topology.size()), topology.ranks_by_host());
  std::size_t own_host = 0;
  while (std::ranges::count(shares.host(own_host), topology.rank()) == 0) ++own_host;
  const std::vector<int>& ranks = shares.host(own_host);
  const std::size_t here = ranks.size();
  const std::size_t hosts = shares.host_count();
  const auto place = static_cast<std::size_t>(std::ranges::find(ranks, topology.rank()) - ranks.begin());
  const Run own = shares.of(here, place);
  ScheduleWriter writer(topology);

  for (std::size_t distance = 1; distance < here; ++distance) {
    const std::size_t right = (place + distance) % here;
    const bool is_last = hosts == 1 && distance + 1 == here;
    writer.send(ranks[right], shares.of(here, right));
    writer.receive(ranks[(place + here - distance) % here], own, is_last ? Action::add_and_finish : Action::add);
  }
  for (std::size_t distance = 1; distance < hosts; ++distance) {
    const std::size_t right = own_host + distance;
    const std::size_t left = own_host + hosts - distance;
    for (const int chunk : shares.finished_by(right, own)) {
      writer.send(shares.holder(right, static_cast<std::size_t>(chunk)), chunk);
    }
    for (const int chunk : shares.finished_by(own_host, own)) {
      writer.receive(shares.holder(left, static_cast<std::size_t>(chunk)), chunk,
                     distance + 1 == hosts ? Action::add_and_finish : Action::add);
    }
  }
  for (std::size_t distance = 1; distance < hosts; ++distance) {
    const std::size_t right = own_host + distance;
    const std::size_t left = own_host + hosts - distance;
    for (const int chunk : shares.finished_by(own_host, own)) {
      writer.send(shares.holder(right, static_cast<std::size_t>(chunk)), chunk);
    }
    for (const int chunk : shares.finished_by(left, own)) {
      writer.receive(shares.holder(left, static_cast<std::size_t>(chunk)), chunk, Action::store);
    }
  }
  for (std::size_t distance = 1; distance < here; ++distance) {
    const std::size_t left = (place + here - distance) % here;
    writer.send(ranks[(place + distance) % here], own);
    writer.receive(ranks[left], shares.of(here, left), Action::store);
  }
  return writer.take();
}

}  // namespace dcs3gd::comm
