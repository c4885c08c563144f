#include "comm/collectives.h"

#include <algorithm>

#include "core/format.h"

namespace dcs3gd::comm {

AllGather::AllGather(Transport& transport, const Topology& topology, std::string_view what,
                     std::span<std::string> blobs)
    : transport_(transport), topology_(topology), what_(what), blobs_(blobs) {}

void AllGather::start(int tag) {
  tag_ = tag;
  if (topology_.size() > 1) post();
}

void AllGather::post() {
  const auto distance = static_cast<std::ptrdiff_t>(step_);
  std::string& sent = blobs_[static_cast<std::size_t>(topology_.rank_left(distance))];
  std::string& received = blobs_[static_cast<std::size_t>(topology_.rank_left(distance + 1))];
  if (part_ == Part::length) {
    sent_length_ = sent.size();
    sends_.post(transport_.start_send(topology_.rank_right(), tag_, std::as_bytes(std::span(&sent_length_, 1))));
    receives_.post(
        transport_.start_receive(topology_.rank_left(), tag_, std::as_writable_bytes(std::span(&received_length_, 1))));
  } else {
    received.resize(received_length_);
    sends_.post(transport_.start_send(topology_.rank_right(), tag_, std::as_bytes(std::span(sent))));
    receives_.post(transport_.start_receive(topology_.rank_left(), tag_, std::as_writable_bytes(std::span(received))));
  }
}

Step AllGather::step() {
  sends_.finish_oldest(transport_);
  receives_.finish_oldest(transport_);
  if (sends_.in_flight() || receives_.in_flight()) return Step::waiting;
  if (topology_.size() == 1) return Step::done;
  if (part_ == Part::length) {
    part_ = Part::content;
  } else {
    part_ = Part::length;
    ++step_;
    if (step_ + 1 == blobs_.size()) return Step::done;
  }
  post();
  return Step::moved;
}

std::string AllGather::name() const {
  return format("{}, step {} of {}", what_, std::min(step_ + 1, blobs_.size() - 1), blobs_.size() - 1);
}

std::string AllGather::waits_for() const { return topology_.nothing_comes_from(topology_.ranks_left(step_ + 1)); }

Broadcast::Broadcast(Transport& transport, const Topology& topology, std::span<std::byte> bytes,
                     std::size_t segment_bytes)
    : transport_(transport),
      topology_(topology),
      bytes_(bytes),
      segment_bytes_(segment_bytes),
      to_receive_(topology.rank() == 0 ? 0 : (bytes.size() + segment_bytes - 1) / segment_bytes),
      to_send_(topology.rank() + 1 == topology.size() ? 0 : (bytes.size() + segment_bytes - 1) / segment_bytes) {}

std::span<std::byte> Broadcast::segment(std::size_t index) const {
  const std::size_t first = index * segment_bytes_;
  return bytes_.subspan(first, std::min(segment_bytes_, bytes_.size() - first));
}

Step Broadcast::step() {
  bool moved = receives_.finish_oldest(transport_).has_value();
  moved |= sends_.finish_oldest(transport_).has_value();
  if (receives_.posted() < to_receive_ && receives_.has_room()) {
    receives_.post(transport_.start_receive(topology_.rank_left(), tag_, segment(receives_.posted())));
    moved = true;
  }
  const std::size_t here = topology_.rank() == 0 ? to_send_ : receives_.finished();
  if (sends_.posted() < std::min(to_send_, here) && sends_.has_room()) {
    sends_.post(transport_.start_send(topology_.rank_right(), tag_, segment(sends_.posted())));
    moved = true;
  }
  if (receives_.finished() == to_receive_ && sends_.finished() == to_send_) return Step::done;
  return moved ? Step::moved : Step::waiting;
}

std::string Broadcast::name() const {
  return format("broadcast of {} bytes, segment {} of {}", fmt::group_digits(bytes_.size()),
                topology_.rank() == 0 ? sends_.finished() : receives_.finished(), std::max(to_receive_, to_send_));
}

std::string Broadcast::waits_for() const {
  if (receives_.finished() < to_receive_) {
    return topology_.nothing_comes_from(topology_.ranks_left(static_cast<std::size_t>(topology_.rank())));
  }
  return format("{} does not take its copy", topology_.describe(topology_.rank_right()));
}

}  // namespace dcs3gd::comm
