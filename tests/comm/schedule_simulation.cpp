#include "tests/comm/schedule_simulation.h"

#include "core/format.h"
#include "core/random_stream.h"

namespace dcs3gd::comm {

Simulation::Simulation(MakeSchedule make, const std::vector<std::string>& hosts, const Tuning& tuning)
    : tuning_(tuning) {
  const auto count = static_cast<int>(hosts.size());
  for (int rank = 0; rank < count; ++rank) {
    RandomStream random(1, RandomPurpose::test, static_cast<std::uint64_t>(rank));
    ranks_.push_back({.schedule = make(Topology(rank, count, hosts))});
    for (std::size_t i = 0; i < hosts.size() * tuning.segments; ++i) {
      Cell cell{.sum = random.normal(), .summands = std::vector<int>(hosts.size())};
      cell.summands[static_cast<std::size_t>(rank)] = 1;
      ranks_.back().memory.push_back(cell);
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

bool Simulation::may_start(std::size_t started, std::size_t finished, std::size_t all) const {
  return started < all * tuning_.segments && started < finished + tuning_.window;
}

bool Simulation::is_free(std::size_t number, std::size_t needed, std::size_t finished) const {
  return needed == 0 || finished > (needed - 1) * tuning_.segments + number % tuning_.segments;
}

Simulation::Cell& Simulation::cell(Rank& rank, int chunk, std::size_t number) const {
  return rank.memory[static_cast<std::size_t>(chunk) * tuning_.segments + number % tuning_.segments];
}

bool Simulation::step(std::size_t index) {
  Rank& rank = ranks_[index];
  bool moves = false;
  const std::vector<Send>& sends = rank.schedule.sends;
  if (const std::size_t number = rank.sent.size(); may_start(number, rank.taken, sends.size())) {
    const Send& send = sends[number / tuning_.segments];
    if (is_free(number, send.after_receives, rank.received)) {
      rank.sent.push_back(cell(rank, send.chunk, number).changes);
      moves = true;
    }
  }
  const std::vector<Receive>& receives = rank.schedule.receives;
  if (const std::size_t number = rank.received + rank.coming.size();
      may_start(number, rank.received, receives.size())) {
    if (is_free(number, receives[number / tuning_.segments].after_sends, rank.taken)) {
      rank.coming.emplace_back();
      moves = true;
    }
  }
  for (std::size_t i = 0; i < rank.coming.size(); ++i) moves |= !rank.coming[i] && take(index, rank.received + i);
  if (!rank.coming.empty() && rank.coming.front()) {
    finish(index);
    moves = true;
  }
  return moves;
}

template <typename Transfers, typename Peer>
std::size_t Simulation::count(const Transfers& transfers, std::size_t number, Peer peer_of, int peer) const {
  std::size_t messages = 0;
  for (std::size_t i = 0; i < number; ++i) messages += transfers[i / tuning_.segments].*peer_of == peer ? 1 : 0;
  return messages;
}

bool Simulation::take(std::size_t index, std::size_t number) {
  Rank& rank = ranks_[index];
  const Receive& receive = rank.schedule.receives[number / tuning_.segments];
  Rank& sender = ranks_[static_cast<std::size_t>(receive.from)];
  const std::size_t sent = sender.taken;
  if (sent >= sender.sent.size()) return false;
  const Send& send = sender.schedule.sends[sent / tuning_.segments];
  const auto own = static_cast<int>(index);
  if (send.to != own) return false;
  if (count(sender.schedule.sends, sent, &Send::to, own) !=
      count(rank.schedule.receives, number, &Receive::from, receive.from)) {
    return false;
  }
  const Cell& source = cell(sender, send.chunk, sent);
  if (send.chunk != receive.chunk || sent % tuning_.segments != number % tuning_.segments) {
    finding_ = format("rank {} expects chunk {} and gets {}", index, receive.chunk, send.chunk);
  }
  if (source.changes != sender.sent[sent]) finding_ = format("rank {} changes what it sends", receive.from);
  if (receive.action == Receive::Action::store) {  // lands in its place at once
    Cell& target = cell(rank, receive.chunk, number);
    if (source.finished != 1) finding_ = format("rank {} stores what is not finished", index);
    const int changes = target.changes + 1;
    target = source;
    target.changes = changes;
  }
  rank.coming[number - rank.received] = source;
  ++sender.taken;
  return true;
}

void Simulation::finish(std::size_t index) {
  Rank& rank = ranks_[index];
  const Receive& receive = rank.schedule.receives[rank.received / tuning_.segments];
  if (receive.action != Receive::Action::store) {
    Cell& target = cell(rank, receive.chunk, rank.received);
    if (target.finished + rank.coming.front()->finished > 0) finding_ = format("rank {} adds to a finished sum", index);
    target.sum += rank.coming.front()->sum;
    for (std::size_t i = 0; i < ranks_.size(); ++i) target.summands[i] += rank.coming.front()->summands[i];
    target.finished = receive.action == Receive::Action::add_and_finish ? 1 : 0;
    ++target.changes;
  }
  rank.coming.pop_front();
  ++rank.received;
}

void Simulation::check_end(std::size_t index) {
  const Rank& rank = ranks_[index];
  if (rank.taken < rank.schedule.sends.size() * tuning_.segments ||
      rank.received < rank.schedule.receives.size() * tuning_.segments) {
    finding_ = format("rank {} stands still after {} messages sent and {} received", index, rank.taken, rank.received);
  }
  const std::vector<int> each_once(ranks_.size(), 1);
  for (std::size_t i = 0; i < rank.memory.size(); ++i) {
    const Cell& own = rank.memory[i];
    if (ranks_.size() > 1 && own.finished != 1) finding_ = format("rank {}: nobody has finished cell {}", index, i);
    if (own.summands != each_once) finding_ = format("rank {}: cell {} does not hold each summand once", index, i);
    if (own.sum != ranks_.front().memory[i].sum) finding_ = format("ranks 0 and {} differ in cell {}", index, i);
  }
}

}  // namespace dcs3gd::comm
