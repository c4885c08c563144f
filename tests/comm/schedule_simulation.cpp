#include "tests/comm/schedule_simulation.h"

#include <algorithm>
#include <cmath>

#include "core/bf16.h"
#include "core/format.h"
#include "core/random_stream.h"

namespace dcs3gd::comm {
namespace {

std::vector<float> summands_of(std::size_t rank, std::size_t cells) {
  RandomStream random(1, RandomPurpose::test, rank);
  std::vector<float> values(cells);
  for (float& value : values) value = random.normal();
  return values;
}

/// The messages of each transfer of one direction, by its own list, `others` and what it waits for there.
template <typename Transfer, typename Other, typename Peer, typename After>
std::vector<SimulatedMessage> messages(const std::vector<Transfer>& transfers, const std::vector<Other>& others,
                                       Peer peer_of, After after, std::size_t segments, std::size_t ranks) {
  const auto length = [&](const Run& run) { return static_cast<std::size_t>(run.chunks) * segments; };
  std::vector<std::size_t> first_of_other{0};
  for (const Other& other : others) first_of_other.push_back(first_of_other.back() + length(other.run));
  std::vector<SimulatedMessage> messages;
  std::vector<std::size_t> with_peer(ranks);
  for (const Transfer& transfer : transfers) {
    const std::size_t waits = transfer.*after;
    const bool is_same_run = waits > 0 && others[waits - 1].run == transfer.run;
    for (std::size_t i = 0; i < length(transfer.run); ++i) {
      SimulatedMessage& message = messages.emplace_back();
      message.peer = static_cast<std::size_t>(transfer.*peer_of);
      message.place = with_peer[message.peer]++;
      message.cell = static_cast<std::size_t>(transfer.run.chunk) * segments + i;
      message.needed = is_same_run ? first_of_other[waits - 1] + i + 1 : first_of_other[waits];
      message.is_exact = transfer.run.exact;
      if constexpr (requires { transfer.action; }) message.action = transfer.action;
    }
  }
  return messages;
}

}  // namespace

Simulation::Simulation(MakeSchedule make, const Topology& ranks, const Tuning& tuning) : tuning_(tuning) {
  const auto count = static_cast<std::size_t>(ranks.size());
  for (std::size_t rank = 0; rank < count; ++rank) {
    const auto [sends, receives] = make(ranks.seen_from(static_cast<int>(rank)));
    Rank& added = ranks_.emplace_back();
    added.sends = messages(sends, receives, &Send::to, &Send::after_receives, tuning.segments, count);
    added.receives = messages(receives, sends, &Receive::from, &Receive::after_sends, tuning.segments, count);
    for (const float value : summands_of(rank, count * tuning.segments)) {
      Cell& cell = added.memory.emplace_back(Cell{.sum = value, .summands = std::vector<unsigned char>(count)});
      cell.summands[rank] = 1;
    }
  }
}

std::string Simulation::run() {
  for (bool moves = true; moves;) {
    moves = false;
    for (std::size_t rank = 0; rank < ranks_.size(); ++rank) moves |= step(rank);
    if (!finding_.empty()) return finding_;
  }
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank) check_end(rank);
  return finding_;
}

double Simulation::worst_error() const {
  const std::size_t cells = ranks_.front().memory.size();
  std::vector<double> sums(cells);
  std::vector<double> magnitudes(cells);
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
    const std::vector<float> summands = summands_of(rank, cells);
    for (std::size_t i = 0; i < cells; ++i) {
      sums[i] += summands[i];
      magnitudes[i] += std::abs(summands[i]);
    }
  }
  double worst = 0;
  for (std::size_t i = 0; i < cells; ++i) {
    worst = std::max(worst, std::abs(ranks_.front().memory[i].sum - sums[i]) / magnitudes[i]);
  }
  return worst;
}

float Simulation::on_the_wire(float value, const SimulatedMessage& message) const {
  return tuning_.wire == Wire::bf16 && !message.is_exact ? to_float(to_bf16(value)) : value;
}

bool Simulation::may_start(const std::vector<SimulatedMessage>& messages, std::size_t started, std::size_t finished,
                           std::size_t others_finished) const {
  return started < messages.size() && started < finished + tuning_.window &&
         others_finished >= messages[started].needed;
}

bool Simulation::step(std::size_t index) {
  Rank& rank = ranks_[index];
  bool moves = false;
  if (may_start(rank.sends, rank.sent.size(), rank.taken, rank.received)) {
    rank.sent.push_back(rank.memory[rank.sends[rank.sent.size()].cell].changes);
    moves = true;
  }
  if (may_start(rank.receives, rank.received + rank.coming.size(), rank.received, rank.taken)) {
    rank.coming.emplace_back();
    moves = true;
  }
  for (std::size_t i = 0; i < rank.coming.size(); ++i) moves |= !rank.coming[i] && take(index, rank.received + i);
  if (!rank.coming.empty() && rank.coming.front()) {
    finish(index);
    moves = true;
  }
  return moves;
}

bool Simulation::take(std::size_t index, std::size_t number) {
  Rank& rank = ranks_[index];
  const SimulatedMessage& receive = rank.receives[number];
  Rank& sender = ranks_[receive.peer];
  if (sender.taken >= sender.sent.size()) return false;
  const SimulatedMessage& send = sender.sends[sender.taken];
  if (send.peer != index || send.place != receive.place) return false;
  const Cell& source = sender.memory[send.cell];
  if (send.cell != receive.cell || send.is_exact != receive.is_exact) {
    finding_ = format("rank {} expects cell {} and gets {}", index, receive.cell, send.cell);
  }
  if (source.changes != sender.sent[sender.taken]) finding_ = format("rank {} changes what it sends", receive.peer);
  Cell message = source;
  message.sum = on_the_wire(source.sum, send);
  if (receive.action == Receive::Action::store) {  // lands in its place at once
    Cell& target = rank.memory[receive.cell];
    if (source.finished != 1) finding_ = format("rank {} stores what is not finished", index);
    message.changes = target.changes + 1;
    target = message;
  }
  rank.coming[number - rank.received] = std::move(message);
  ++sender.taken;
  return true;
}

void Simulation::finish(std::size_t index) {
  Rank& rank = ranks_[index];
  const SimulatedMessage& receive = rank.receives[rank.received];
  if (receive.action != Receive::Action::store) {
    Cell& target = rank.memory[receive.cell];
    const Cell& summand = *rank.coming.front();
    if (target.finished + summand.finished > 0) finding_ = format("rank {} adds to a finished sum", index);
    target.sum += summand.sum;
    for (std::size_t i = 0; i < ranks_.size(); ++i) {
      target.summands[i] = static_cast<unsigned char>(target.summands[i] + summand.summands[i]);
    }
    if (receive.action == Receive::Action::add_and_finish) {
      target.sum = on_the_wire(target.sum, receive);
      target.finished = 1;
    }
    ++target.changes;
  }
  rank.coming.pop_front();
  ++rank.received;
}

void Simulation::check_end(std::size_t index) {
  const Rank& rank = ranks_[index];
  if (rank.taken < rank.sends.size() || rank.received < rank.receives.size()) {
    finding_ = format("rank {} stands still after {} messages sent and {} received", index, rank.taken, rank.received);
  }
  const std::vector<unsigned char> each_once(ranks_.size(), 1);
  for (std::size_t i = 0; i < rank.memory.size(); ++i) {
    const Cell& own = rank.memory[i];
    if (ranks_.size() > 1 && own.finished != 1) finding_ = format("rank {}: nobody has finished cell {}", index, i);
    if (own.summands != each_once) finding_ = format("rank {}: cell {} does not hold each summand once", index, i);
    if (own.sum != ranks_.front().memory[i].sum) finding_ = format("ranks 0 and {} differ in cell {}", index, i);
  }
}

}  // namespace dcs3gd::comm
