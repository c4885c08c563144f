#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "comm/operation.h"
#include "comm/schedule/topology.h"
#include "comm/transfer_window.h"
#include "comm/transport.h"

namespace dcs3gd::comm {

/// Gives every rank the blobs of all ranks, one after the other round the ring: what a rank received it passes on, N −
/// 1 times. Each blob is preceded by its length. With empty blobs it is the barrier: at the end everyone has heard,
/// through its left neighbour, of everyone else.
class AllGather final : public Operation {
 public:
  /// `what` names the purpose. `blobs` has one entry per rank; this rank's own is read, the others are written.
  AllGather(Transport& transport, const Topology& topology, std::string_view what, std::span<std::string> blobs);

  void start(int tag) override;
  Step step() override;
  std::string name() const override;
  std::string waits_for() const override;

 private:
  /// Length and content of a blob travel as two messages.
  enum class Part { length, content };

  void post();

  Transport& transport_;
  const Topology& topology_;
  const std::string what_;
  const std::span<std::string> blobs_;
  int tag_ = 0;

  std::atomic<std::size_t> step_ = 0;
  Part part_ = Part::length;
  std::uint64_t sent_length_ = 0;
  std::uint64_t received_length_ = 0;
  TransferWindow receives_;
  TransferWindow sends_;
};

/// Copies rank 0's bytes to all ranks: segments run down the chain 0, 1, … N − 1, so it takes little longer than one
/// transfer. `bytes` has the same length everywhere.
class Broadcast final : public Operation {
 public:
  Broadcast(Transport& transport, const Topology& topology, std::span<std::byte> bytes, std::size_t segment_bytes);

  void start(int tag) override { tag_ = tag; }
  Step step() override;
  std::string name() const override;
  std::string waits_for() const override;

 private:
  std::span<std::byte> segment(std::size_t index) const;

  Transport& transport_;
  const Topology& topology_;
  const std::span<std::byte> bytes_;
  const std::size_t segment_bytes_;
  int tag_ = 0;
  const std::size_t to_receive_;  ///< segments; none at rank 0
  const std::size_t to_send_;     ///< segments; none at the last rank

  TransferWindow receives_;
  TransferWindow sends_;
};

}  // namespace dcs3gd::comm
