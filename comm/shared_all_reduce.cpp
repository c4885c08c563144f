#include "comm/shared_all_reduce.h"

#include <algorithm>

#include "core/format.h"
#include "core/simd.h"

namespace dcs3gd::comm {
namespace {

/// What a step deals with: some tens of microseconds, so that what is more urgent need not wait. In the nearest cache.
constexpr std::size_t kPieceFloats = 4096;
constexpr int kPiecesPerStep = 8;

constexpr std::size_t whole_lines(std::size_t floats) { return line_count(floats) * kLineFloats; }

/// sum = factor · (x + y); sum may be x.
DCS3GD_SIMD_CLONES
void add_and_scale(const float* x, const float* y, float factor, float* sum, std::size_t count) {
  DCS3GD_INDEPENDENT_ITERATIONS
  for (std::size_t i = 0; i < count; ++i) sum[i] = factor * (x[i] + y[i]);
}

}  // namespace

std::size_t SharedAllReduce::board_bytes(const AllReduceSpec& spec, const Topology& topology) {
  const std::size_t longest_chunk = chunk_range(spec.values.size(), topology.size(), 0).count;
  return sizeof(Flags) + (whole_lines(spec.tail.size()) + longest_chunk) * sizeof(float);
}

SharedAllReduce::SharedAllReduce(Transport& transport, const Topology& topology, const AllReduceSpec& spec,
                                 std::shared_ptr<HostMemory> memory, std::shared_ptr<std::byte> board,
                                 std::span<const Place> places, std::uint64_t number,
                                 const MakeBetweenHosts& make_between_hosts)
    : transport_(transport),
      topology_(topology),
      spec_(spec),
      memory_(std::move(memory)),
      board_(std::move(board)),
      number_(number),
      flags_(reinterpret_cast<Flags*>(board_.get())),  // zeros, as memory is allocated: others may look already
      tail_(reinterpret_cast<float*>(board_.get() + sizeof(Flags))),
      sums_(tail_ + whole_lines(spec.tail.size())) {
  ranks_.reserve(places.size());
  for (std::size_t rank = 0; rank < places.size(); ++rank) {
    const std::byte* const its_board = memory_->at(rank, places[rank].board);
    const auto* const tail = reinterpret_cast<const float*>(its_board + sizeof(Flags));
    const std::byte* const values = spec_.values.empty() ? nullptr : memory_->at(rank, places[rank].values);
    ranks_.push_back({.values = reinterpret_cast<const float*>(values),
                      .flags = reinterpret_cast<const Flags*>(its_board),
                      .tail = tail,
                      .sums = tail + whole_lines(spec_.tail.size())});
  }
  if (!make_between_hosts) return;
  const auto [first, count] = chunk(static_cast<std::size_t>(topology_.rank()));
  AllReduceSpec own_chunk = spec_;
  own_chunk.values = {sums_, count};
  if (!spec_.losses.empty()) own_chunk.losses = spec_.losses.subspan(first, count);
  between_hosts_ = make_between_hosts(own_chunk);
}

SharedAllReduce::~SharedAllReduce() { memory_->retire(number_, board_); }

std::vector<ResultPart> SharedAllReduce::parts() const {
  if (!spec_.leaves_parts) return {{0, spec_.values}};
  std::vector<ResultPart> parts;
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
    const auto [first, count] = chunk(rank);
    if (count > 0) parts.push_back({first, {ranks_[rank].sums, count}});
  }
  return parts;
}

int SharedAllReduce::blocks_per_step() const { return yields() ? 1 : kPiecesPerStep; }

Range SharedAllReduce::chunk(std::size_t rank) const {
  return chunk_range(spec_.values.size(), topology_.size(), static_cast<int>(rank));
}

void SharedAllReduce::start(int tag) {
  ++round_;
  tag_ = tag;
  started_ = finished_ = 0;
  summed_ = copied_ = 0;
  is_summed_ = is_finished_ = false;
  std::ranges::copy(spec_.tail, tail_);
  flags_->started.store(round_, std::memory_order_release);
}

Step SharedAllReduce::step() {
  advance(started_, &Flags::started);
  if (started_ < ranks_.size()) return wait();
  if (!is_summed_) {
    sum();
    return Step::moved;
  }
  if (!is_finished_) return sum_between_hosts();
  const bool moved = advance(finished_, &Flags::finished) || copy();
  if (finished_ == ranks_.size() && (spec_.leaves_parts || copied_ == spec_.values.size())) {
    transport_.throw_if_broken();  // a rank that failed meanwhile may have taken its summands with it
    return Step::done;
  }
  return moved ? Step::moved : wait();
}

/// Whether further ranks have come as far.
bool SharedAllReduce::advance(std::atomic<std::size_t>& ranks, std::atomic<std::uint64_t> Flags::*flag) const {
  const std::size_t before = ranks;
  while (ranks < ranks_.size() && (ranks_[ranks].flags->*flag).load(std::memory_order_acquire) >= round_) ++ranks;
  return ranks > before;
}

void SharedAllReduce::sum() {
  const auto [first, count] = chunk(static_cast<std::size_t>(topology_.rank()));
  for (int block = 0; block < blocks_per_step() && summed_ < count; ++block) {
    const std::size_t floats = std::min(kPieceFloats, count - summed_);
    float* const sums = sums_ + summed_;
    const float* before = ranks_[0].values + first + summed_;
    for (std::size_t rank = 1; rank < ranks_.size(); ++rank) {
      const float factor = rank + 1 == ranks_.size() && !between_hosts_ ? *spec_.factor : 1;
      add_and_scale(before, ranks_[rank].values + first + summed_, factor, sums, floats);
      before = sums;
    }
    // Nobody else reads the values there, and the sums are in the nearest cache.
    if (!spec_.leaves_parts && !between_hosts_) std::copy_n(sums, floats, spec_.values.data() + first + summed_);
    summed_ += floats;
  }
  if (summed_ < count) return;
  for (std::size_t i = 0; i < spec_.tail.size(); ++i) {
    spec_.tail[i] = 0;
    for (const Neighbour& rank : ranks_) spec_.tail[i] += rank.tail[i];
  }
  if (between_hosts_) {
    between_hosts_->start(tag_);
  } else {
    finish();
  }
  is_summed_ = true;
}

Step SharedAllReduce::sum_between_hosts() {
  between_hosts_->set_yields(yields());
  const Step step = between_hosts_->step();
  if (step != Step::done) return step;
  finish();
  return Step::moved;
}

void SharedAllReduce::finish() {
  is_finished_ = true;
  flags_->finished.store(round_, std::memory_order_release);
}

/// Whether there was something to copy: whoever has finished a chunk reads the values there no more.
bool SharedAllReduce::copy() {
  const std::size_t before = copied_;
  std::size_t rank = 0;
  for (int block = 0; !spec_.leaves_parts && block < blocks_per_step(); ++block) {
    while (rank < finished_ && chunk(rank).first + chunk(rank).count <= copied_) ++rank;
    if (rank == finished_) break;
    const auto [first, count] = chunk(rank);
    const bool is_there = rank == static_cast<std::size_t>(topology_.rank()) && !between_hosts_;
    const std::size_t floats = is_there ? count : std::min(kPieceFloats, first + count - copied_);
    if (!is_there) std::copy_n(ranks_[rank].sums + (copied_ - first), floats, spec_.values.data() + copied_);
    copied_ += floats;
  }
  return copied_ > before;
}

Step SharedAllReduce::wait() const {
  transport_.throw_if_broken();
  return Step::waiting;
}

std::string SharedAllReduce::name() const {
  const bool has_started = started_ == ranks_.size();
  if (!between_hosts_) {
    return format("shared all-reduce of {} floats, step {} of 2", fmt::group_digits(spec_.values.size()),
                  has_started ? 2 : 1);
  }
  return format("hierarchical all-reduce of {} floats, {}", fmt::group_digits(spec_.values.size()),
                is_summed_ && !is_finished_ ? "between hosts: " + between_hosts_->name() : "within the host");
}

std::string SharedAllReduce::waits_for() const {
  if (between_hosts_ && is_summed_ && !is_finished_) {
    return between_hosts_->waits_for() + "; a rank may wait for those of its own host, too";
  }
  const std::size_t missing = started_ < ranks_.size() ? started_ : finished_;
  const auto rank = static_cast<int>(std::min(missing, ranks_.size() - 1));
  const std::string text = topology_.nothing_comes_from(std::span(&rank, 1));
  return between_hosts_ && is_finished_ ? text + ", which may be waiting for another host" : text;
}

}  // namespace dcs3gd::comm
