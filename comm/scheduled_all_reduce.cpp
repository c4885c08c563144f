#include "comm/scheduled_all_reduce.h"

#include <algorithm>

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

bool is_staged(Receive::Action action, Wire wire) { return action != Receive::Action::store || wire != Wire::fp32; }

}  // namespace

ScheduledAllReduce::ScheduledAllReduce(Transport& transport, const Topology& topology, const AlgorithmInfo& algorithm,
                                       const AllReduceSpec& spec, std::size_t segment_bytes,
                                       std::size_t exact_segment_bytes)
    : transport_(transport),
      topology_(topology),
      algorithm_(algorithm),
      schedule_(algorithm.make(topology)),
      spec_(spec),
      segment_bytes_(segment_bytes),
      exact_segment_bytes_(exact_segment_bytes) {
  for (const Send& send : schedule_.sends) {
    add_transfer(send_numbers_, send.run);
    const Piece first = piece(send.run, 0);
    if (first.wire != Wire::fp32) outgoing_bytes_ = std::max(outgoing_bytes_, whole_lines(first.bytes()));
  }
  for (const Receive& receive : schedule_.receives) {
    add_transfer(receive_numbers_, receive.run);
    const Piece first = piece(receive.run, 0);
    const Piece first_of_tail = piece(receive.run, value_segments(receive.run));
    incoming_bytes_ = std::max(incoming_bytes_, whole_lines(std::max(first.bytes(), first_of_tail.bytes())));
  }
  const std::size_t bytes = TransferWindow::kSlots * (incoming_bytes_ + outgoing_bytes_);
  if (bytes > 0) staging_ = AlignedBuffer<std::byte>(bytes);
}

void ScheduledAllReduce::add_transfer(MessageNumbers& numbers, const Run& run) {
  const std::size_t of_values = value_segments(run);
  numbers.add_transfer(of_values + segment_count(range(spec_.tail, run), segment_floats(run, Wire::fp32)));
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
  if (sends_.finished() == send_numbers_.count() && receives_.finished() == receive_numbers_.count()) {
    return Step::done;
  }
  return moved ? Step::moved : Step::waiting;
}

Range ScheduledAllReduce::range(std::span<const float> array, const Run& run) const {
  return run_range(array.size(), topology_.size(), run.chunk, run.chunks);
}

std::size_t ScheduledAllReduce::value_segments(const Run& run) const {
  return segment_count(range(spec_.values, run), segment_floats(run, wire_of(run)));
}

ScheduledAllReduce::Piece ScheduledAllReduce::piece(const Run& run, std::size_t segment) const {
  const std::size_t of_values = value_segments(run);
  const bool in_tail = segment >= of_values;
  const std::span<float> array = in_tail ? spec_.tail : spec_.values;
  const Wire wire = in_tail ? Wire::fp32 : wire_of(run);
  const Range part =
      segment_range(range(array, run), segment_floats(run, wire), in_tail ? segment - of_values : segment);
  return {.data = array.data() + part.first,
          .losses = in_tail || spec_.losses.empty() ? nullptr : spec_.losses.data() + part.first,
          .count = part.count,
          .factor = in_tail ? 1.0F : *spec_.factor,
          .wire = wire};
}

std::byte* ScheduledAllReduce::slot(Direction direction, std::size_t message) {
  constexpr std::size_t kSlots = TransferWindow::kSlots;
  return direction == Direction::incoming
             ? staging_.data() + message % kSlots * incoming_bytes_
             : staging_.data() + kSlots * incoming_bytes_ + message % kSlots * outgoing_bytes_;
}

bool ScheduledAllReduce::post_receive() {
  const std::size_t message = receives_.posted();
  if (message == receive_numbers_.count() || !receives_.has_room()) return false;
  const auto [transfer, segment] = receive_numbers_.place(message);
  const Receive& receive = schedule_.receives[transfer];
  if (sends_.finished() < messages_needed(schedule_.sends, send_numbers_, receive.after_sends, receive.run, segment)) {
    return false;
  }
  const Piece target = piece(receive.run, segment);
  std::byte* memory =
      is_staged(receive.action, target.wire) ? slot(Direction::incoming, message) : as_bytes(target.data);
  receives_.post(transport_.start_receive(topology_.member(receive.from), tag_, {memory, target.bytes()}));
  return true;
}

bool ScheduledAllReduce::post_send() {
  const std::size_t message = sends_.posted();
  if (message == send_numbers_.count() || !sends_.has_room()) return false;
  if (yields() && sends_.in_flight()) return false;
  const auto [transfer, segment] = send_numbers_.place(message);
  const Send& send = schedule_.sends[transfer];
  if (receives_.finished() <
      messages_needed(schedule_.receives, receive_numbers_, send.after_receives, send.run, segment)) {
    return false;
  }
  const Piece source = piece(send.run, segment);
  std::byte* memory = as_bytes(source.data);
  if (source.wire != Wire::fp32) {
    memory = slot(Direction::outgoing, message);
    // Exact for a finished sum: it is rounded already.
    if (is_narrow(source.wire)) {
      encode(source.wire, source.data, send.is_finished ? nullptr : source.losses, memory, source.count);
    } else {
      to_bf16(source.data, as_bf16(memory), source.count);
    }
  }
  sends_.post(transport_.start_send(topology_.member(send.to), tag_, {memory, source.bytes()}));
  return true;
}

bool ScheduledAllReduce::finish_receive() {
  const std::optional<std::size_t> message = receives_.finish_oldest(transport_);
  if (!message) return false;
  const auto [transfer, segment] = receive_numbers_.place(*message);
  const Receive& receive = schedule_.receives[transfer];
  const Piece target = piece(receive.run, segment);
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
  if (is_narrow(piece.wire)) {
    if (action == Receive::Action::store) {
      decode(piece.wire, incoming, piece.data, piece.count);
    } else {
      add(piece.wire, incoming, piece.data, piece.count);
    }
    if (action == Receive::Action::add_and_finish) {
      scale_and_round(piece.wire, piece.factor, piece.losses, piece.data, piece.count);
    }
  } else if (action == Receive::Action::store) {
    from_bf16(as_bf16(incoming), piece.data, piece.count);
  } else if (piece.wire == Wire::bf16) {
    reduce(as_bf16(incoming));
  } else {
    reduce(as_floats(incoming));
  }
}

std::string ScheduledAllReduce::name() const {
  const std::size_t steps = schedule_.receives.size();
  return format("{} all-reduce of {} floats{}, step {} of {}", algorithm_.name, fmt::group_digits(spec_.values.size()),
                *spec_.wire == Wire::fp32 ? "" : format(" in {}", info_of(*spec_.wire).name),
                std::min(receive_numbers_.place(receives_.finished()).transfer + 1, steps), steps);
}

std::string ScheduledAllReduce::waits_for() const {
  std::string text;
  if (const std::size_t next = receives_.finished(); next < receive_numbers_.count()) {
    const std::size_t transfer = receive_numbers_.place(next).transfer;
    text = topology_.nothing_comes_from(blamed_ranks(algorithm_.make, topology_, transfer));
  }
  if (sends_.in_flight()) {
    const std::size_t transfer = send_numbers_.place(sends_.finished()).transfer;
    text += format("{}{} does not take step {}", text.empty() ? "" : "; ",
                   topology_.describe(schedule_.sends[transfer].to), transfer + 1);
  }
  return text;
}

}  // namespace dcs3gd::comm
