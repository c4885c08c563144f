#include "comm/collectives.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "core/format.h"

namespace dcs3gd::comm {
namespace {

/// What MPI counts in one message, with room to spare.
constexpr std::size_t kMaxMessageBytes = std::size_t{1} << 30;

/// How many rounds of doubling it takes from one to so many.
std::size_t rounds(std::size_t count) { return static_cast<std::size_t>(std::bit_width(count - 1)); }

}  // namespace

AllGather::AllGather(Transport& transport, const Topology& topology, std::string_view what,
                     std::span<std::string> blobs)
    : transport_(transport), topology_(topology), what_(what), blobs_(blobs) {}

void AllGather::start(int tag) {
  tag_ = tag;
  if (!is_over()) start_round();
}

std::string& AllGather::blob_left(std::size_t distance) {
  return blobs_[static_cast<std::size_t>(topology_.rank_left(static_cast<std::ptrdiff_t>(distance)))];
}

void AllGather::start_round() {
  const std::size_t count = std::min<std::size_t>(distance_, blobs_.size() - distance_);
  const auto distance = static_cast<std::ptrdiff_t>(distance_);
  sent_lengths_.clear();
  sent_.clear();
  for (std::size_t i = 0; i < count; ++i) {
    sent_lengths_.push_back(blob_left(i).size());
    sent_ += blob_left(i);
  }
  received_lengths_.resize(count);
  has_lengths_ = false;
  sent_bytes_ = received_bytes_ = 0;
  sends_.post(transport_.start_send(topology_.member(topology_.rank_right(distance)), tag_,
                                    std::as_bytes(std::span(sent_lengths_))));
  receives_.post(transport_.start_receive(topology_.member(topology_.rank_left(distance)), tag_,
                                          std::as_writable_bytes(std::span(received_lengths_))));
}

/// False when all of it has travelled.
bool AllGather::post_content() {
  const auto distance = static_cast<std::ptrdiff_t>(distance_);
  const std::span to_send = std::span(sent_).subspan(sent_bytes_);
  const std::span to_receive = std::span(received_).subspan(received_bytes_);
  if (!to_send.empty()) {
    const std::span part = to_send.first(std::min(to_send.size(), kMaxMessageBytes));
    sends_.post(transport_.start_send(topology_.member(topology_.rank_right(distance)), tag_, std::as_bytes(part)));
    sent_bytes_ += part.size();
  }
  if (!to_receive.empty()) {
    const std::span part = to_receive.first(std::min(to_receive.size(), kMaxMessageBytes));
    receives_.post(
        transport_.start_receive(topology_.member(topology_.rank_left(distance)), tag_, std::as_writable_bytes(part)));
    received_bytes_ += part.size();
  }
  return !to_send.empty() || !to_receive.empty();
}

void AllGather::end_round() {
  std::size_t at = 0;
  for (std::size_t i = 0; i < received_lengths_.size(); ++i) {
    blob_left(distance_ + i) = received_.substr(at, received_lengths_[i]);
    at += received_lengths_[i];
  }
  distance_ = 2 * distance_;
}

Step AllGather::step() {
  if (is_over()) return Step::done;
  sends_.finish_oldest(transport_);
  receives_.finish_oldest(transport_);
  if (sends_.in_flight() || receives_.in_flight()) return Step::waiting;
  if (!has_lengths_) {
    has_lengths_ = true;
    received_.resize(std::accumulate(received_lengths_.begin(), received_lengths_.end(), std::size_t{0}));
  }
  if (post_content()) return Step::moved;
  end_round();
  if (is_over()) return Step::done;
  start_round();
  return Step::moved;
}

std::string AllGather::name() const {
  const std::size_t all = rounds(blobs_.size());
  return format("{}, step {} of {}", what_, std::min(rounds(distance_) + 1, all), all);
}

std::string AllGather::waits_for() const {
  if (!receives_.in_flight() && sends_.in_flight()) {
    return format("{} does not take it",
                  topology_.describe(topology_.rank_right(static_cast<std::ptrdiff_t>(distance_))));
  }
  // The sender has had rounds of its own, from as many ranks to its left again.
  std::vector<int> ranks;
  const std::size_t end = std::min(2 * distance_, blobs_.size());
  for (std::size_t i = distance_; i < end; ++i) ranks.push_back(topology_.rank_left(static_cast<std::ptrdiff_t>(i)));
  return topology_.nothing_comes_from(ranks);
}

Gather::Gather(Transport& transport, const Topology& topology, std::string_view mine, std::span<std::string> blobs)
    : transport_(transport), topology_(topology), mine_(mine), blobs_(blobs) {}

Step Gather::step() {
  const bool moved = messages_.finish_oldest(transport_).has_value();
  if (messages_.in_flight()) return moved ? Step::moved : Step::waiting;
  return topology_.rank() == 0 ? receive() : send();
}

Step Gather::send() {
  if (messages_.posted() == 2) return Step::done;
  if (messages_.posted() == 0) {
    length_ = mine_.size();
    messages_.post(transport_.start_send(0, tag_, std::as_bytes(std::span(&length_, 1))));
  } else {
    messages_.post(transport_.start_send(0, tag_, std::as_bytes(std::span(mine_))));
  }
  return Step::moved;
}

Step Gather::receive() {
  if (messages_.posted() == 2) {
    messages_.clear();
    ++from_;
  }
  if (from_ == topology_.size()) return Step::done;
  if (messages_.posted() == 0) {
    messages_.post(transport_.start_receive(from_, tag_, std::as_writable_bytes(std::span(&length_, 1))));
  } else {
    std::string& blob = blobs_[static_cast<std::size_t>(from_)];
    blob.resize(length_);
    messages_.post(transport_.start_receive(from_, tag_, std::as_writable_bytes(std::span(blob))));
  }
  return Step::moved;
}

std::string Gather::name() const {
  return format("gathering at rank 0, rank {} of {}", from_.load(), topology_.size() - 1);
}

std::string Gather::waits_for() const {
  if (topology_.rank() != 0) return format("{} does not take it", topology_.describe(0));
  const int from = from_;
  return topology_.nothing_comes_from(std::span(&from, 1));
}

Broadcast::Broadcast(Transport& transport, const Topology& topology, std::span<std::byte> bytes,
                     std::size_t segment_bytes)
    : transport_(transport),
      topology_(topology),
      bytes_(bytes),
      segment_bytes_(segment_bytes),
      segments_((bytes.size() + segment_bytes - 1) / segment_bytes),
      branches_(segments_ > static_cast<std::size_t>(topology.size()) ? 1 : 2) {
  const int first = topology.rank() * branches_ + 1;
  for (int target = first; target < std::min(first + branches_, topology.size()); ++target) targets_.push_back(target);
}

std::span<std::byte> Broadcast::segment(std::size_t index) const {
  const std::size_t first = index * segment_bytes_;
  return bytes_.subspan(first, std::min(segment_bytes_, bytes_.size() - first));
}

Step Broadcast::step() {
  const bool is_source = topology_.rank() == 0;
  const std::size_t to_receive = is_source ? 0 : segments_;
  bool moved = receives_.finish_oldest(transport_).has_value();
  moved |= sends_.finish_oldest(transport_).has_value();
  if (receives_.posted() < to_receive && receives_.has_room()) {
    receives_.post(transport_.start_receive(source_of(topology_.rank()), tag_, segment(receives_.posted())));
    moved = true;
  }
  const std::size_t here = is_source ? segments_ : receives_.finished();
  if (sends_.posted() < here * targets_.size() && sends_.has_room()) {
    const std::size_t number = sends_.posted();
    sends_.post(transport_.start_send(targets_[number % targets_.size()], tag_, segment(number / targets_.size())));
    moved = true;
  }
  if (receives_.finished() == to_receive && sends_.finished() == segments_ * targets_.size()) return Step::done;
  return moved ? Step::moved : Step::waiting;
}

std::string Broadcast::name() const {
  return format(
      "broadcast of {} bytes, segment {} of {}", fmt::group_digits(bytes_.size()),
      topology_.rank() == 0 ? sends_.finished() / std::max<std::size_t>(targets_.size(), 1) : receives_.finished(),
      segments_);
}

std::string Broadcast::waits_for() const {
  if (topology_.rank() > 0 && receives_.finished() < segments_) {
    std::vector<int> ranks;
    for (int rank = topology_.rank(); rank > 0; rank = source_of(rank)) ranks.push_back(source_of(rank));
    return topology_.nothing_comes_from(ranks);
  }
  return format("{} does not take its copy", topology_.describe(targets_[sends_.finished() % targets_.size()]));
}

}  // namespace dcs3gd::comm
