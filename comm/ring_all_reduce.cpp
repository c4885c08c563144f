#include "comm/ring_all_reduce.h"

#include "comm/wire_format.h"
#include "core/format.h"

namespace dcs3gd::comm {
namespace {

std::size_t steps(int rank_count) { return 2 * (static_cast<std::size_t>(rank_count) - 1); }

std::uint16_t* as_bf16(std::byte* memory) { return reinterpret_cast<std::uint16_t*>(memory); }
const float* as_floats(const std::byte* memory) { return reinterpret_cast<const float*>(memory); }
std::byte* as_bytes(float* memory) { return reinterpret_cast<std::byte*>(memory); }

}  // namespace

RingAllReduce::RingAllReduce(Transport& transport, const Topology& topology, RingScratch& scratch,
                             const RingAllReduceWork& work, int tag)
    : transport_(transport),
      topology_(topology),
      scratch_(scratch),
      work_(work),
      tag_(tag),
      rank_count_(static_cast<std::size_t>(topology.size())),
      value_segments_(segments_per_chunk(work.values.size(), topology.size(), scratch.segment_floats(work.wire))),
      segments_(value_segments_ +
                segments_per_chunk(work.extras.size(), topology.size(), scratch.segment_floats(Wire::fp32))),
      message_count_(steps(topology.size()) * segments_) {}

void RingAllReduce::start() {
  if (rank_count_ == 1 && work_.factor != 1.0F) scale(work_.factor, work_.values.data(), work_.values.size());
}

Step RingAllReduce::step() {
  // The order keeps the ring turning: what has come is passed on at once, before anything else is looked at.
  bool moved = finish_receive();
  moved |= sends_.finish_oldest(transport_).has_value();
  moved |= post_receive();
  moved |= post_send();
  if (sends_.finished() == message_count_ && receives_.finished() == message_count_) return Step::done;
  return moved ? Step::moved : Step::waiting;
}

RingAllReduce::Piece RingAllReduce::piece(int chunk, std::size_t segment) const {
  const bool extras = segment >= value_segments_;
  const std::span<float> array = extras ? work_.extras : work_.values;
  const Wire wire = extras ? Wire::fp32 : work_.wire;
  const Range range = segment_range(chunk_range(array.size(), topology_.size(), chunk), scratch_.segment_floats(wire),
                                    extras ? segment - value_segments_ : segment);
  return {
      .data = array.data() + range.first, .count = range.count, .factor = extras ? 1.0F : work_.factor, .wire = wire};
}

RingAllReduce::Piece RingAllReduce::sent_piece(std::size_t message) const {
  return piece(topology_.rank_left(static_cast<std::ptrdiff_t>(1 + step_of(message))), message % segments_);
}

RingAllReduce::Piece RingAllReduce::received_piece(std::size_t message) const {
  return piece(topology_.rank_left(static_cast<std::ptrdiff_t>(2 + step_of(message))), message % segments_);
}

bool RingAllReduce::lands_in_scratch(std::size_t message, const Piece& piece) const {
  return reduces(message) || piece.wire == Wire::bf16;
}

bool RingAllReduce::post_receive() {
  const std::size_t message = receives_.posted();
  if (message == message_count_ || !receives_.has_room()) return false;
  // A finished chunk replaces what this rank sent N−1 steps ago: that must have left.
  if (message >= sends_.finished() + (rank_count_ - 1) * segments_) return false;
  const Piece target = received_piece(message);
  std::byte* memory = lands_in_scratch(message, target) ? scratch_.incoming(message) : as_bytes(target.data);
  receives_.post(transport_.start_receive(topology_.rank_left(), tag_, {memory, target.bytes()}));
  return true;
}

bool RingAllReduce::post_send() {
  const std::size_t message = sends_.posted();
  if (message == message_count_ || !sends_.has_room()) return false;
  if (message >= receives_.finished() + segments_) return false;  // passed on one step after it came
  const Piece source = sent_piece(message);
  std::byte* memory = as_bytes(source.data);
  if (source.wire == Wire::bf16) {
    memory = scratch_.outgoing(message);
    to_bf16(source.data, as_bf16(memory), source.count);  // exact in the all-gather: the values are rounded already
  }
  sends_.post(transport_.start_send(topology_.rank_right(), tag_, {memory, source.bytes()}));
  return true;
}

bool RingAllReduce::finish_receive() {
  const std::optional<std::size_t> message = receives_.finish_oldest(transport_);
  if (message) absorb(*message, received_piece(*message));
  return message.has_value();
}

void RingAllReduce::absorb(std::size_t message, const Piece& piece) {
  if (!lands_in_scratch(message, piece)) return;
  std::byte* incoming = scratch_.incoming(message);
  const auto reduce = [&](const auto* summands) {
    if (completes_own_chunk(message)) {
      add_and_scale(summands, piece.factor, piece.data, piece.count);
    } else {
      add(summands, piece.data, piece.count);
    }
  };
  if (!reduces(message)) {
    from_bf16(as_bf16(incoming), piece.data, piece.count);
  } else if (piece.wire == Wire::bf16) {
    reduce(as_bf16(incoming));
  } else {
    reduce(as_floats(incoming));
  }
}

std::string RingAllReduce::name() const {
  const std::size_t all = steps(topology_.size());
  const std::size_t current = message_count_ == 0 ? all : std::min(step_of(receives_.finished()) + 1, all);
  return format("ring all-reduce of {} floats{}, step {} of {}", fmt::group_digits(work_.values.size()),
                work_.wire == Wire::bf16 ? " in bf16" : "", current, all);
}

std::string RingAllReduce::waits_for() const {
  std::string text;
  if (receives_.finished() < message_count_)
    text = topology_.nothing_comes_from(topology_.ranks_left(step_of(receives_.finished()) + 1));
  if (sends_.in_flight()) {
    text += format("{}{} does not take step {}", text.empty() ? "" : "; ", topology_.describe(topology_.rank_right()),
                   step_of(sends_.finished()) + 1);
  }
  return text;
}

}  // namespace dcs3gd::comm
