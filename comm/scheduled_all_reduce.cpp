#include "comm/scheduled_all_reduce.h"

#include <algorithm>

#include "comm/schedule/chunks.h"
#include "comm/wire_format.h"
#include "core/format.h"

namespace dcs3gd::comm {
namespace {

constexpr std::size_t whole_lines(std::size_t bytes) {
  constexpr std::size_t kLineBytes = kLineFloats * sizeof(float);
  return (bytes + kLineBytes - 1) / kLineBytes * kLineBytes;
}

std::uint16_t* as_bf16(std::byte* memory) { return reinterpret_cast<std::uint16_t*>(memory); }
const std::uint16_t* as_bf16(const std::byte* memory) { return reinterpret_cast<const std::uint16_t*>(memory); }
const float* as_floats(const std::byte* memory) { return reinterpret_cast<const float*>(memory); }
std::byte* as_bytes(float* memory) { return reinterpret_cast<std::byte*>(memory); }

bool is_staged(Receive::Action action, Wire wire) { return action != Receive::Action::store || wire == Wire::bf16; }

}  // namespace

ScheduledAllReduce::ScheduledAllReduce(Transport& transport, const Topology& topology, const AlgorithmInfo& algorithm,
                                       const AllReduceSpec& spec, std::size_t segment_bytes)
    : transport_(transport),
      topology_(topology),
      algorithm_(algorithm),
      schedule_(algorithm.make(topology)),
      spec_(spec),
      segment_bytes_(segment_bytes),
      value_segments_(segments_per_chunk(spec.values.size(), topology.size(), segment_floats(*spec.wire))),
      segments_(value_segments_ + segments_per_chunk(spec.tail.size(), topology.size(), segment_floats(Wire::fp32))),
      slot_bytes_(whole_lines(std::max(piece(0, 0).bytes(), piece(0, value_segments_).bytes()))) {
  const std::size_t slots = TransferWindow::kSlots * (*spec.wire == Wire::bf16 ? 2 : 1);
  if (!schedule_.receives.empty()) staging_ = AlignedBuffer<std::byte>(slots * slot_bytes_);
}

void ScheduledAllReduce::start(int tag) {
  tag_ = tag;
  receives_.clear();
  sends_.clear();
  if (topology_.size() == 1 && *spec_.factor != 1.0F) scale(*spec_.factor, spec_.values.data(), spec_.values.size());
}

Step ScheduledAllReduce::step() {
  // The order keeps the chunks moving: what has come is passed on at once, before anything else is looked at.
  bool moved = finish_receive();
  moved |= sends_.finish_oldest(transport_).has_value();
  moved |= post_receive();
  moved |= post_send();
  if (sends_.finished() == schedule_.sends.size() * segments_ &&
      receives_.finished() == schedule_.receives.size() * segments_) {
    return Step::done;
  }
  return moved ? Step::moved : Step::waiting;
}

ScheduledAllReduce::Piece ScheduledAllReduce::piece(int chunk, std::size_t segment) const {
  const bool in_tail = segment >= value_segments_;
  const std::span<float> array = in_tail ? spec_.tail : spec_.values;
  const Wire wire = in_tail ? Wire::fp32 : *spec_.wire;
  const Range range = segment_range(chunk_range(array.size(), topology_.size(), chunk), segment_floats(wire),
                                    in_tail ? segment - value_segments_ : segment);
  return {
      .data = array.data() + range.first, .count = range.count, .factor = in_tail ? 1.0F : *spec_.factor, .wire = wire};
}

std::byte* ScheduledAllReduce::slot(Direction direction, std::size_t message) {
  constexpr std::size_t kSlots = TransferWindow::kSlots;
  return staging_.data() + (message % kSlots + (direction == Direction::outgoing ? kSlots : 0)) * slot_bytes_;
}

/// Whether this segment of the first so many transfers is finished; transfers are finished in order.
bool ScheduledAllReduce::is_finished(const TransferWindow& window, std::size_t transfers, std::size_t segment) const {
  return transfers == 0 || window.finished() > (transfers - 1) * segments_ + segment;
}

bool ScheduledAllReduce::post_receive() {
  const std::size_t message = receives_.posted();
  if (message == schedule_.receives.size() * segments_ || !receives_.has_room()) return false;
  const Receive& receive = receive_of(message);
  if (!is_finished(sends_, receive.after_sends, message % segments_)) return false;
  const Piece target = piece(receive.chunk, message % segments_);
  std::byte* memory =
      is_staged(receive.action, target.wire) ? slot(Direction::incoming, message) : as_bytes(target.data);
  receives_.post(transport_.start_receive(topology_.member(receive.from), tag_, {memory, target.bytes()}));
  return true;
}

bool ScheduledAllReduce::post_send() {
  const std::size_t message = sends_.posted();
  if (message == schedule_.sends.size() * segments_ || !sends_.has_room()) return false;
  if (yields() && sends_.in_flight()) return false;
  const Send& send = send_of(message);
  if (!is_finished(receives_, send.after_receives, message % segments_)) return false;
  const Piece source = piece(send.chunk, message % segments_);
  std::byte* memory = as_bytes(source.data);
  if (source.wire == Wire::bf16) {
    memory = slot(Direction::outgoing, message);
    to_bf16(source.data, as_bf16(memory), source.count);  // exact for a finished sum: it is rounded already
  }
  sends_.post(transport_.start_send(topology_.member(send.to), tag_, {memory, source.bytes()}));
  return true;
}

bool ScheduledAllReduce::finish_receive() {
  const std::optional<std::size_t> message = receives_.finish_oldest(transport_);
  if (!message) return false;
  const Receive& receive = receive_of(*message);
  const Piece target = piece(receive.chunk, *message % segments_);
  if (is_staged(receive.action, target.wire)) absorb(receive.action, slot(Direction::incoming, *message), target);
  return true;
}

void ScheduledAllReduce::absorb(Receive::Action action, const std::byte* incoming, const Piece& piece) const {
  const auto reduce = [&](const auto* summands) {
    if (action == Receive::Action::add_and_finish) {
      add_and_scale(summands, piece.factor, piece.data, piece.count);
    } else {
      add(summands, piece.data, piece.count);
    }
  };
  if (action == Receive::Action::store) {
    from_bf16(as_bf16(incoming), piece.data, piece.count);
  } else if (piece.wire == Wire::bf16) {
    reduce(as_bf16(incoming));
  } else {
    reduce(as_floats(incoming));
  }
}

std::string ScheduledAllReduce::name() const {
  const std::size_t steps = schedule_.receives.size();
  const std::size_t current = segments_ == 0 ? steps : std::min(receives_.finished() / segments_ + 1, steps);
  return format("{} all-reduce of {} floats{}, step {} of {}", algorithm_.name, fmt::group_digits(spec_.values.size()),
                *spec_.wire == Wire::bf16 ? " in bf16" : "", current, steps);
}

std::string ScheduledAllReduce::waits_for() const {
  std::string text;
  if (receives_.finished() < schedule_.receives.size() * segments_) {
    text = topology_.nothing_comes_from(blamed_ranks(algorithm_.make, topology_, receives_.finished() / segments_));
  }
  if (sends_.in_flight()) {
    text += format("{}{} does not take step {}", text.empty() ? "" : "; ",
                   topology_.describe(send_of(sends_.finished()).to), sends_.finished() / segments_ + 1);
  }
  return text;
}

}  // namespace dcs3gd::comm
