#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "comm/operation.h"
#include "comm/options.h"
#include "comm/schedule/chunks.h"
#include "comm/schedule/topology.h"
#include "comm/transfer_window.h"
#include "comm/transport.h"
#include "core/aligned_buffer.h"

namespace dcs3gd::comm {

// The ring all-reduce.
//
// Words. The array of P floats is cut into N *chunks*, one per rank (ring_layout.h: whole cache lines, dealt out
// evenly, a function of P and N alone; lengths that do not divide make chunks that differ by one line, short arrays
// leave trailing chunks empty). A chunk travels in *segments*, so that a rank can pass on the first segment while the
// next ones still arrive. The size of a segment is tuning: it changes no sum.
//
//               chunk 0    1    2    3
//    ┌──▶ rank 0 [ a0 | a1 | a2 | a3 ] ──┐      Everyone sends to the right (rank + 1) only and receives from the left
//    │    rank 1 [ b0 | b1 | b2 | b3 ] ◀─┘ ──┐  only, all at the same time. In step i = 0 … 2N−3 rank r
//    │    rank 2 [ c0 | c1 | c2 | c3 ] ◀─────┘      sends    chunk (r − 1 − i) mod N to rank r + 1,
//    │    rank 3 [ d0 | d1 | d2 | d3 ] ◀─ …         receives chunk (r − 2 − i) mod N from rank r − 1,
//    └─────────┘                                and sends in step i + 1 what it received in step i.
//
// Reduce-scatter, steps 0 … N−2: a chunk gathers one more summand at each rank it visits. Chunk 0 leaves rank 1 as b0,
// is c0 + b0 at rank 2, d0 + (c0 + b0) at rank 3, and is complete at rank 0, its owner: rank r owns chunk r. The owner
// multiplies by the factor, rounds to the wire type and *keeps the rounded value*.
// All-gather, steps N−1 … 2N−3: the finished chunks go once more round the ring and replace what is there.
//
//       received in step   0  1  2 ┊ 3  4  5
//             rank 0 chunk 2  1  0 ┊ 3  2  1      left of ┊ added, the last one finished by its owner;
//             rank 1 chunk 3  2  1 ┊ 0  3  2      right of ┊ stored
//             rank 2 chunk 0  3  2 ┊ 1  0  3
//             rank 3 chunk 1  0  3 ┊ 2  1  0
//
// Every element is summed once, by one rank after the other in ring order, and copied after that: the result has the
// same bits on all ranks, whatever the timing.
//
// Cost per rank: 2(N−1) steps, 2(N−1)/N · P elements sent and as many received, (N−1)/N · P additions. For two ranks
// this is the direct exchange of halves; for one rank nothing travels, and nothing is rounded.

/// Bytes that a float takes on the wire.
constexpr std::size_t wire_bytes(Wire wire) { return wire == Wire::bf16 ? sizeof(std::uint16_t) : sizeof(float); }

/// Staging memory for the segments in flight. One operation at a time uses it.
class RingScratch {
 public:
  /// `segment_bytes` as they travel; a multiple of kLineFloats floats.
  explicit RingScratch(std::size_t segment_bytes)
      : segment_bytes_(segment_bytes), incoming_(kSlots * segment_bytes), outgoing_(kSlots * segment_bytes) {}

  std::size_t segment_bytes() const { return segment_bytes_; }
  std::size_t segment_floats(Wire wire) const { return segment_bytes_ / wire_bytes(wire); }
  std::byte* incoming(std::size_t message) { return incoming_.data() + message % kSlots * segment_bytes_; }
  std::byte* outgoing(std::size_t message) { return outgoing_.data() + message % kSlots * segment_bytes_; }

 private:
  static constexpr std::size_t kSlots = TransferWindow::kSlots;

  std::size_t segment_bytes_;
  AlignedBuffer<std::byte> incoming_;
  AlignedBuffer<std::byte> outgoing_;
};

/// What a ring all-reduce works on; the memory belongs to the operation until it is done.
struct RingAllReduceWork {
  std::span<float> values;  ///< becomes factor · Σ over ranks
  std::span<float> extras;  ///< becomes Σ over ranks; always travels in fp32
  float factor = 1;
  Wire wire = Wire::fp32;
};

class RingAllReduce final : public Operation {
 public:
  RingAllReduce(Transport& transport, const Topology& topology, RingScratch& scratch, const RingAllReduceWork& work,
                int tag);

  void start() override;
  Step step() override;
  const char* kind() const override { return "all-reduce"; }
  std::string name() const override;
  std::string waits_for() const override;

 private:
  /// One segment of the values or of the extras.
  struct Piece {
    float* data = nullptr;
    std::size_t count = 0;
    float factor = 1;
    Wire wire = Wire::fp32;
    std::size_t bytes() const { return count * wire_bytes(wire); }
  };

  std::size_t step_of(std::size_t message) const { return message / segments_; }
  bool reduces(std::size_t message) const { return step_of(message) + 1 < rank_count_; }
  bool completes_own_chunk(std::size_t message) const { return step_of(message) + 2 == rank_count_; }
  Piece piece(int chunk, std::size_t segment) const;
  Piece sent_piece(std::size_t message) const;
  Piece received_piece(std::size_t message) const;
  bool lands_in_scratch(std::size_t message, const Piece& piece) const;

  bool finish_receive();
  bool post_receive();
  bool post_send();
  void absorb(std::size_t message, const Piece& piece);

  Transport& transport_;
  const Topology& topology_;
  RingScratch& scratch_;
  const RingAllReduceWork work_;
  const int tag_;
  const std::size_t rank_count_;
  const std::size_t value_segments_;  ///< segments per chunk of the values; those of the extras follow
  const std::size_t segments_;        ///< messages per step
  const std::size_t message_count_;   ///< in each direction, numbered step · segments + segment

  TransferWindow receives_;
  TransferWindow sends_;
};

}  // namespace dcs3gd::comm
