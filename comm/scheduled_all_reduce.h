#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "comm/all_reduce.h"
#include "comm/operation.h"
#include "comm/schedule/algorithms.h"
#include "comm/schedule/chunks.h"
#include "comm/schedule/message_numbers.h"
#include "comm/transfer_window.h"
#include "comm/transport.h"
#include "core/aligned_buffer.h"

namespace dcs3gd::comm {

/// Carries out a schedule (schedule/schedule.h). Each run travels in segments, so that a rank passes on the first
/// segment while the next ones still arrive, each segment as one message. The segments of the tail follow those of the
/// values. The size of a segment is tuning: it changes no sum.
///
/// Whoever finishes a sum multiplies it by the factor, rounds it to the wire type and *keeps the rounded value*: what
/// is stored elsewhere has the same bits. One rank alone sends nothing and rounds nothing.
class ScheduledAllReduce final : public Operation {
 public:
  /// Factor and wire of the spec are set. Segments in bytes as they travel; multiples of kLineFloats floats. Those of
  /// exact runs, which stay within a host, have a size of their own.
  ScheduledAllReduce(Transport& transport, const Topology& topology, const AlgorithmInfo& algorithm,
                     const AllReduceSpec& spec, std::size_t segment_bytes, std::size_t exact_segment_bytes);

  void start(int tag) override;
  Step step() override;
  int urgency() const override { return spec_.urgency; }
  const char* kind() const override { return "all-reduce"; }
  std::string name() const override;
  std::string waits_for() const override;

  std::size_t staging_bytes() const { return staging_.size(); }

 private:
  /// One segment of a run, of the values or of the tail.
  struct Piece {
    float* data = nullptr;
    float* losses = nullptr;  ///< or none
    std::size_t count = 0;
    float factor = 1;
    Wire wire = Wire::fp32;

    std::size_t bytes() const { return wire_bytes(wire, count); }
  };
  /// A slot holds any piece; messages use them in turn.
  enum class Direction { incoming, outgoing };

  std::size_t segment_floats(const Run& run, Wire wire) const {
    return wire_floats(wire, run.exact ? exact_segment_bytes_ : segment_bytes_);
  }
  Wire wire_of(const Run& run) const { return run.exact ? Wire::fp32 : *spec_.wire; }
  Range range(std::span<const float> array, const Run& run) const;
  std::size_t value_segments(const Run& run) const;
  Piece piece(const Run& run, std::size_t segment) const;
  void add_transfer(MessageNumbers& numbers, const Run& run);
  std::byte* slot(Direction direction, std::size_t message);

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
  const std::size_t exact_segment_bytes_;
  MessageNumbers send_numbers_;
  MessageNumbers receive_numbers_;
  std::size_t incoming_bytes_ = 0;    ///< of a slot
  std::size_t outgoing_bytes_ = 0;    ///< of a slot; 0: all leaves as it is
  AlignedBuffer<std::byte> staging_;  ///< the slots of what comes, then those of what leaves
  int tag_ = 0;

  TransferWindow receives_;
  TransferWindow sends_;
};

}  // namespace dcs3gd::comm
