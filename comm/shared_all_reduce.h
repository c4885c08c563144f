#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "comm/all_reduce.h"
#include "comm/host_memory.h"
#include "comm/operation.h"
#include "comm/schedule/chunks.h"
#include "comm/schedule/topology.h"
#include "comm/transport.h"

namespace dcs3gd::comm {

/// `comm.algorithm: shared`: the ranks of a host read each other's arrays in place. Between hosts a chunk is summed by
/// an operation of its owner with the owners of the same chunk on the other hosts: `hierarchical`.
///
///   rank 0 values [ a0 | a1 | a2 ]   board [ flags | tail | a0 + b0 + c0 ]     Every rank sums its own chunk, in the
///   rank 1 values [ b0 | b1 | b2 ]   board [ flags | tail | a1 + b1 + c1 ]     order of the ranks, straight out of the
///   rank 2 values [ c0 | c1 | c2 ]   board [ flags | tail | a2 + b2 + c2 ]     arrays of all, into its board.
///
/// There the others read it: where the spec says so, in place, until they start the plan again; else they copy it. No
/// message is sent within the host. A rank's values are read until all have finished their chunks, its board is written
/// again when all have started again. Sums within the host are fp32 on any wire, and their order depends on nothing but
/// the number of ranks; between hosts they are ordered and rounded as that operation does.
class SharedAllReduce final : public Operation {
 public:
  /// Where a rank has what the others read.
  struct Place {
    std::size_t values = HostMemory::kNowhere;
    std::size_t board = HostMemory::kNowhere;
  };
  static std::size_t board_bytes(const AllReduceSpec& spec, const Topology& topology);
  /// Makes the all-reduce of a host's sums, of the own chunk and the tail, with those of other hosts.
  using MakeBetweenHosts = std::function<std::unique_ptr<Operation>(const AllReduceSpec& own_chunk)>;

  /// The factor of the spec is set. `places` by rank of the host; `number` is this plan's among all of these ranks.
  /// `make_between_hosts` is empty where there is one host.
  SharedAllReduce(Transport& transport, const Topology& topology, const AllReduceSpec& spec,
                  std::shared_ptr<HostMemory> memory, std::shared_ptr<std::byte> board, std::span<const Place> places,
                  std::uint64_t number, const MakeBetweenHosts& make_between_hosts);
  ~SharedAllReduce() override;
  SharedAllReduce(const SharedAllReduce&) = delete;
  SharedAllReduce& operator=(const SharedAllReduce&) = delete;

  /// Where the averages lie after each run.
  std::vector<ResultPart> parts() const;

  void start(int tag) override;
  Step step() override;
  int urgency() const override { return spec_.urgency; }
  const char* kind() const override { return "all-reduce"; }
  std::string name() const override;
  std::string waits_for() const override;

 private:
  /// In which start of the plan a rank is, each flag alone on a cache line, written by its rank.
  struct Flags {
    alignas(64) std::atomic<std::uint64_t> started;
    alignas(64) std::atomic<std::uint64_t> finished;
  };
  /// A rank's arrays as this process sees them.
  struct Neighbour {
    const float* values;
    const Flags* flags;
    const float* tail;
    const float* sums;
  };
  static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "flags are shared by processes");

  Range chunk(std::size_t rank) const;
  int blocks_per_step() const;
  bool advance(std::atomic<std::size_t>& ranks, std::atomic<std::uint64_t> Flags::*flag) const;
  void sum();
  Step sum_between_hosts();
  void finish();
  bool copy();
  Step wait() const;

  Transport& transport_;
  const Topology& topology_;
  const AllReduceSpec spec_;
  const std::shared_ptr<HostMemory> memory_;
  const std::shared_ptr<std::byte> board_;
  const std::uint64_t number_;
  std::vector<Neighbour> ranks_;
  // The board: what this rank writes and the others read.
  Flags* const flags_;
  float* const tail_;
  float* const sums_;  ///< of the own chunk
  std::unique_ptr<Operation> between_hosts_;

  std::uint64_t round_ = 0;  ///< starts of the plan
  int tag_ = 0;
  // Of this one.
  std::atomic<std::size_t> started_ = 0;   ///< ranks, in their order, that are seen to have started
  std::atomic<std::size_t> finished_ = 0;  ///< … and to have finished their chunks
  std::size_t summed_ = 0;                 ///< floats of the own chunk
  std::atomic<bool> is_summed_ = false;    ///< over the host, the tail, too
  std::atomic<bool> is_finished_ = false;  ///< over all hosts
  std::size_t copied_ = 0;                 ///< floats of the values
};

}  // namespace dcs3gd::comm
