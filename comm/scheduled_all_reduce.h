#pragma once

#include <cstddef>
#include <string>

#include "comm/all_reduce.h"
#include "comm/operation.h"
#include "comm/schedule/algorithms.h"
#include "comm/transfer_window.h"
#include "comm/transport.h"
#include "core/aligned_buffer.h"

namespace dcs3gd::comm {

/// Carries out a schedule (schedule/schedule.h). Each chunk travels in segments, so that a rank passes on the first
/// segment while the next ones still arrive, each segment as one message. The segments of the tail follow those of the
/// values. The size of a segment is tuning: it changes no sum.
///
/// Whoever finishes a sum multiplies it by the factor, rounds it to the wire type and *keeps the rounded value*: what
/// is stored elsewhere has the same bits. One rank alone sends nothing and rounds nothing.
class ScheduledAllReduce final : public Operation {
 public:
  /// Factor and wire of the spec are set. `segment_bytes` as they travel; a multiple of kLineFloats floats.
  ScheduledAllReduce(Transport& transport, const Topology& topology, const AlgorithmInfo& algorithm,
                     const AllReduceSpec& spec, std::size_t segment_bytes);

  void start(int tag) override;
  Step step() override;
  int urgency() const override { return spec_.urgency; }
  const char* kind() const override { return "all-reduce"; }
  std::string name() const override;
  std::string waits_for() const override;

  std::size_t staging_bytes() const { return staging_.size(); }

 private:
  /// One segment of a chunk, of the values or of the tail.
  struct Piece {
    float* data = nullptr;
    std::size_t count = 0;
    float factor = 1;
    Wire wire = Wire::fp32;

    std::size_t bytes() const { return count * wire_bytes(wire); }
  };
  /// A slot holds any piece; messages use them in turn.
  enum class Direction { incoming, outgoing };

  std::size_t segment_floats(Wire wire) const { return segment_bytes_ / wire_bytes(wire); }
  Piece piece(int chunk, std::size_t segment) const;
  std::byte* slot(Direction direction, std::size_t message);
  const Send& send_of(std::size_t message) const { return schedule_.sends[message / segments_]; }
  const Receive& receive_of(std::size_t message) const { return schedule_.receives[message / segments_]; }
  bool is_finished(const TransferWindow& window, std::size_t transfers, std::size_t segment) const;

  bool finish_receive();
  bool post_receive();
  bool post_send();
  void absorb(Receive::Action action, const std::byte* incoming, const Piece& piece) const;

  Transport& transport_;
  const Topology& topology_;
  const AlgorithmInfo& algorithm_;
  const Schedule schedule_;
  const AllReduceSpec spec_;
  const std::size_t segment_bytes_;
  const std::size_t value_segments_;  ///< per chunk; those of the tail follow
  const std::size_t segments_;        ///< messages per transfer; message number = transfer · segments + segment
  const std::size_t slot_bytes_;
  AlignedBuffer<std::byte> staging_;  ///< the slots of what comes, then, for bf16, of what leaves
  int tag_ = 0;

  TransferWindow receives_;
  TransferWindow sends_;
};

}  // namespace dcs3gd::comm
