#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "comm/operation.h"
#include "comm/schedule/topology.h"
#include "comm/transfer_window.h"
#include "comm/transport.h"

namespace dcs3gd::comm {

/// Gives every rank the blobs of all ranks in ⌈log2 N⌉ rounds: in each a rank receives from as far to its left as it
/// has blobs, its own and those to its left, as many again, and sends as far to its right. The lengths go first. With
/// empty blobs it is the barrier: at the end everyone has heard of everyone else.
class AllGather final : public Operation {
 public:
  /// `what` names the purpose. `blobs` has one entry per rank; this rank's own is read, the others are written.
  AllGather(Transport& transport, const Topology& topology, std::string_view what, std::span<std::string> blobs);

  void start(int tag) override;
  Step step() override;
  std::string name() const override;
  std::string waits_for() const override;

 private:
  bool is_over() const { return distance_ >= blobs_.size(); }
  /// The blob of the rank so many places to the left.
  std::string& blob_left(std::size_t distance);
  void start_round();
  bool post_content();
  void end_round();

  Transport& transport_;
  const Topology& topology_;
  const std::string what_;
  const std::span<std::string> blobs_;
  int tag_ = 0;

  std::atomic<std::size_t> distance_ = 1;  ///< doubled in each round
  std::vector<std::uint64_t> sent_lengths_;
  std::vector<std::uint64_t> received_lengths_;
  std::string sent_;  ///< one blob after the other
  std::string received_;
  // How far they are on their way.
  std::size_t sent_bytes_ = 0;
  std::size_t received_bytes_ = 0;
  bool has_lengths_ = false;
  TransferWindow receives_;
  TransferWindow sends_;
};

/// Brings all ranks' blobs to rank 0 alone, one after the other in the order of the ranks, each preceded by its length:
/// nobody else holds more than its own.
class Gather final : public Operation {
 public:
  /// `mine` is read where the rank is not 0; at rank 0 `blobs` has one entry per rank, and all but the first are
  /// written.
  Gather(Transport& transport, const Topology& topology, std::string_view mine, std::span<std::string> blobs);

  void start(int tag) override { tag_ = tag; }
  Step step() override;
  std::string name() const override;
  std::string waits_for() const override;

 private:
  Step send();
  Step receive();

  Transport& transport_;
  const Topology& topology_;
  const std::string_view mine_;
  const std::span<std::string> blobs_;
  int tag_ = 0;

  std::atomic<int> from_ = 1;
  std::uint64_t length_ = 0;
  TransferWindow messages_;  ///< of a blob: its length, its content
};

/// Copies rank 0's bytes to all ranks, in segments. Of more segments than ranks they run down the chain 0, 1, … N − 1,
/// so that it takes little longer than one transfer; of fewer down a tree of two branches at each rank, where the last
/// rank is few hops away. `bytes` has the same length everywhere.
class Broadcast final : public Operation {
 public:
  Broadcast(Transport& transport, const Topology& topology, std::span<std::byte> bytes, std::size_t segment_bytes);

  void start(int tag) override { tag_ = tag; }
  Step step() override;
  std::string name() const override;
  std::string waits_for() const override;

 private:
  std::span<std::byte> segment(std::size_t index) const;
  /// Whom a rank has it from.
  int source_of(int rank) const { return (rank - 1) / branches_; }

  Transport& transport_;
  const Topology& topology_;
  const std::span<std::byte> bytes_;
  const std::size_t segment_bytes_;
  const std::size_t segments_;
  const int branches_;
  std::vector<int> targets_;
  int tag_ = 0;

  TransferWindow receives_;
  TransferWindow sends_;  ///< each segment to all targets, then the next one
};

}  // namespace dcs3gd::comm
