#include <algorithm>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "comm/schedule/algorithms.h"
#include "comm/schedule/chunks.h"
#include "core/format.h"
#include "core/random_stream.h"

namespace dcs3gd::comm {
namespace {

/// Chunks and their segments cover the array once, in order.
void check_cover(std::size_t floats, int chunk_count, std::size_t segment_floats) {
  const std::size_t segments = segments_per_chunk(floats, chunk_count, segment_floats);
  std::size_t next = 0;
  for (int chunk = 0; chunk < chunk_count; ++chunk) {
    const Range range = chunk_range(floats, chunk_count, chunk);
    REQUIRE(range.first == next);
    REQUIRE((range.count == 0 || range.first % kLineFloats == 0));
    for (std::size_t segment = 0; segment < segments; ++segment) {
      const Range part = segment_range(range, segment_floats, segment);
      REQUIRE(part.first == next);
      REQUIRE(part.count <= segment_floats);
      next += part.count;
    }
    REQUIRE(next == range.first + range.count);
  }
  REQUIRE(next == floats);
}

TEST_CASE("chunks and segments cover every length once") {
  for (int chunks = 1; chunks <= 9; ++chunks) {
    for (std::size_t floats = 0; floats < 700; ++floats) check_cover(floats, chunks, 32);
  }
}

TEST_CASE("chunks differ by one cache line at most") {
  for (int chunk = 0; chunk < 7; ++chunk) {
    const Range range = chunk_range(1000 * kLineFloats, 7, chunk);
    CHECK(range.count == (chunk < 6 ? 143 : 142) * kLineFloats);
  }
}

TEST_CASE("index arithmetic beyond 2^31 and 2^32 elements") {
  constexpr std::size_t kFloats = (std::size_t{5} << 31) + 7;
  constexpr std::size_t kSegment = 65536;
  std::size_t next = 0;
  for (int chunk = 0; chunk < 3; ++chunk) {
    const Range range = chunk_range(kFloats, 3, chunk);
    CHECK(range.first == next);
    CHECK(range.count > std::size_t{1} << 31);
    next += range.count;
    const std::size_t segments = segments_per_chunk(kFloats, 3, kSegment);
    const Range last = segment_range(range, kSegment, segments - 1);
    CHECK(last.first + last.count == next);
    CHECK(last.count > 0);
  }
  CHECK(next == kFloats);
  constexpr std::size_t kMost = SIZE_MAX / sizeof(float);
  const Range last = chunk_range(kMost, 128, 127);
  CHECK(last.first + last.count == kMost);
}

TEST_CASE("the ring closes") {
  const Topology topology(1, 4);
  CHECK(topology.rank_right() == 2);
  CHECK(topology.rank_left() == 0);
  CHECK(topology.rank_left(2) == 3);
  CHECK(topology.rank_left(9) == 0);
  CHECK(topology.seen_from(3).rank_right() == 0);
  CHECK(Topology(0, 1).rank_right() == 0);
  CHECK(topology.ranks_left(2) == std::vector<int>{0, 3});
  CHECK(topology.ranks_left(7) == std::vector<int>{0, 3, 2});
}

TEST_CASE("ranks are called by their hosts once these are known") {
  CHECK(Topology(0, 2).describe(1) == "rank 1");
  const Topology topology(0, 4, {"ash", "beech", "cedar", "elm"});
  CHECK(topology.nothing_comes_from(std::vector{3}) == "nothing comes from rank 3 on elm");
  CHECK(topology.nothing_comes_from(std::vector{3, 2, 1}) ==
        "nothing comes from rank 3 on elm, which may be waiting for rank 2 on cedar or rank 1 on beech");
}

// Two more shapes that a schedule may have: several chunks a step, and groups of ranks.

/// For powers of two: halves of what is left are exchanged with ever nearer ranks, and given back the same way.
Schedule halving_doubling(const Topology& topology) {
  const int rank = topology.rank();
  ScheduleWriter writer(topology);
  for (int distance = topology.size() / 2; distance > 0; distance /= 2) {
    const int peer = rank ^ distance;
    for (int i = 0; i < distance; ++i) {
      writer.send(peer, peer / distance * distance + i);
      writer.receive(peer, rank / distance * distance + i,
                     distance == 1 ? Receive::Action::add_and_finish : Receive::Action::add);
    }
  }
  for (int distance = 1; distance < topology.size(); distance *= 2) {
    const int peer = rank ^ distance;
    for (int i = 0; i < distance; ++i) {
      writer.send(peer, rank / distance * distance + i);
      writer.receive(peer, peer / distance * distance + i, Receive::Action::store);
    }
  }
  return writer.take();
}

/// The first rank of each host adds up its host's arrays, runs a ring with the other first ranks, and deals out the
/// sums.
Schedule hierarchical(const Topology& topology) {
  using Action = Receive::Action;
  const std::vector<std::string>& hosts = topology.hosts();
  std::vector<int> leaders;
  std::vector<int> members;  // of this rank's host, without its leader
  int leader = -1;
  for (int rank = 0; rank < topology.size(); ++rank) {
    const auto index = static_cast<std::size_t>(rank);
    const bool leads = std::ranges::find(hosts, hosts[index]) - hosts.begin() == rank;
    if (leads) leaders.push_back(rank);
    if (hosts[index] != hosts[static_cast<std::size_t>(topology.rank())]) continue;
    if (leads) leader = rank;
    if (!leads) members.push_back(rank);
  }
  ScheduleWriter writer(topology);
  if (leader != topology.rank()) {
    for (int chunk = 0; chunk < topology.size(); ++chunk) writer.send(leader, chunk);
    for (int chunk = 0; chunk < topology.size(); ++chunk) writer.receive(leader, chunk, Action::store);
    return writer.take();
  }
  for (const int member : members) {
    const bool is_last = leaders.size() == 1 && member == members.back();
    for (int chunk = 0; chunk < topology.size(); ++chunk) {
      writer.receive(member, chunk, is_last ? Action::add_and_finish : Action::add);
    }
  }
  const int count = static_cast<int>(leaders.size());
  const Topology ring(static_cast<int>(std::ranges::find(leaders, leader) - leaders.begin()), count);
  const auto to_leader = [&](int place) { return leaders[static_cast<std::size_t>(place)]; };
  for (int step = 0; step < 2 * (count - 1); ++step) {
    const Action action = step < count - 2 ? Action::add : step == count - 2 ? Action::add_and_finish : Action::store;
    for (int chunk = ring.rank_left(1 + step); chunk < topology.size(); chunk += count) {
      writer.send(to_leader(ring.rank_right()), chunk);
    }
    for (int chunk = ring.rank_left(2 + step); chunk < topology.size(); chunk += count) {
      writer.receive(to_leader(ring.rank_left()), chunk, action);
    }
  }
  for (const int member : members) {
    for (int chunk = 0; chunk < topology.size(); ++chunk) writer.send(member, chunk);
  }
  return writer.take();
}

/// Carries out the schedules of all ranks in one loop, as a strict network would: a message is copied when both sides
/// have come to it, and only then is its memory free again.
class Simulation {
 public:
  struct Tuning {
    std::size_t segments = 1;  ///< per chunk
    std::size_t window = 1;    ///< messages in flight in each direction
  };

  Simulation(MakeSchedule make, const std::vector<std::string>& hosts, const Tuning& tuning) : tuning_(tuning) {
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

  /// Returns what is wrong, empty if nothing is.
  std::string run() {
    for (bool moves = true; moves;) {
      moves = false;
      for (std::size_t rank = 0; rank < ranks_.size(); ++rank) moves |= step(rank);
      if (!finding_.empty()) return finding_;
    }
    for (std::size_t rank = 0; rank < ranks_.size(); ++rank) check_end(rank);
    return finding_;
  }

 private:
  /// One segment of a chunk.
  struct Cell {
    float sum = 0;
    std::vector<int> summands;  ///< by rank: how often
    int finished = 0;
    int changes = 0;
  };
  struct Rank {
    Schedule schedule;
    std::vector<Cell> memory = {};
    // Messages in the order of the lists, each once a segment.
    std::vector<int> sent = {};  ///< changes of their cells at the start
    std::size_t taken = 0;       ///< sends finished
    std::deque<std::optional<Cell>> coming = {};
    std::size_t received = 0;
  };

  bool may_start(std::size_t started, std::size_t finished, std::size_t all) const {
    return started < all * tuning_.segments && started < finished + tuning_.window;
  }
  /// Whether the segment of message `number` is among those finished of the first `needed` transfers.
  bool is_free(std::size_t number, std::size_t needed, std::size_t finished) const {
    return needed == 0 || finished > (needed - 1) * tuning_.segments + number % tuning_.segments;
  }
  Cell& cell(Rank& rank, int chunk, std::size_t number) const {
    return rank.memory[static_cast<std::size_t>(chunk) * tuning_.segments + number % tuning_.segments];
  }

  bool step(std::size_t index) {
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

  /// How many messages up to `number` go to, or come from, the peer.
  template <typename Transfers, typename Peer>
  std::size_t count(const Transfers& transfers, std::size_t number, Peer peer_of, int peer) const {
    std::size_t messages = 0;
    for (std::size_t i = 0; i < number; ++i) messages += transfers[i / tuning_.segments].*peer_of == peer ? 1 : 0;
    return messages;
  }

  /// Copies the message of a receive if its sender has come to it. In order: sends are finished by their order too.
  bool take(std::size_t index, std::size_t number) {
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

  void finish(std::size_t index) {
    Rank& rank = ranks_[index];
    const Receive& receive = rank.schedule.receives[rank.received / tuning_.segments];
    if (receive.action != Receive::Action::store) {
      Cell& target = cell(rank, receive.chunk, rank.received);
      if (target.finished + rank.coming.front()->finished > 0)
        finding_ = format("rank {} adds to a finished sum", index);
      target.sum += rank.coming.front()->sum;
      for (std::size_t i = 0; i < ranks_.size(); ++i) target.summands[i] += rank.coming.front()->summands[i];
      target.finished = receive.action == Receive::Action::add_and_finish ? 1 : 0;
      ++target.changes;
    }
    rank.coming.pop_front();
    ++rank.received;
  }

  void check_end(std::size_t index) {
    const Rank& rank = ranks_[index];
    if (rank.taken < rank.schedule.sends.size() * tuning_.segments ||
        rank.received < rank.schedule.receives.size() * tuning_.segments) {
      finding_ =
          format("rank {} stands still after {} messages sent and {} received", index, rank.taken, rank.received);
    }
    const std::vector<int> each_once(ranks_.size(), 1);
    for (std::size_t i = 0; i < rank.memory.size(); ++i) {
      const Cell& own = rank.memory[i];
      if (ranks_.size() > 1 && own.finished != 1) finding_ = format("rank {}: nobody has finished cell {}", index, i);
      if (own.summands != each_once) finding_ = format("rank {}: cell {} does not hold each summand once", index, i);
      if (own.sum != ranks_.front().memory[i].sum) finding_ = format("ranks 0 and {} differ in cell {}", index, i);
    }
  }

  const Tuning tuning_;
  std::vector<Rank> ranks_;
  std::string finding_;
};

/// On hosts of three ranks each.
void check_schedule(std::string_view name, MakeSchedule make, int ranks) {
  std::vector<std::string> hosts;
  for (int rank = 0; rank < ranks; ++rank) hosts.push_back(format("host{}", rank / 3));
  for (const Simulation::Tuning& tuning : {Simulation::Tuning{1, 1}, {1, 4}, {3, 1}, {3, 4}}) {
    INFO(name, ", ", ranks, " ranks, ", tuning.segments, " segments, ", tuning.window, " in flight");
    CHECK(Simulation(make, hosts, tuning).run() == "");
  }
}

TEST_CASE("every schedule brings each summand to each rank once, with the same bits, and never stands still") {
  for (const AlgorithmInfo& algorithm : algorithms()) {
    if (algorithm.is_native()) continue;
    for (int ranks = 1; ranks <= 16; ++ranks) check_schedule(algorithm.name, algorithm.make, ranks);
    for (const int ranks : {24, 33}) check_schedule(algorithm.name, algorithm.make, ranks);
  }
  for (int ranks = 1; ranks <= 16; ++ranks) check_schedule("hierarchical", hierarchical, ranks);
  for (const int ranks : {1, 2, 4, 8, 16, 32}) check_schedule("halving-doubling", halving_doubling, ranks);
}

TEST_CASE("a simulation sees a schedule that is wrong") {
  const auto stuck = [](const Topology& topology) {
    Schedule schedule = find_algorithm("ring").make(topology);
    std::ranges::reverse(schedule.receives);
    return schedule;
  };
  CHECK(Simulation(stuck, {"ash", "elm", "oak"}, {}).run() != "");
  const auto hasty = [](const Topology& topology) {
    Schedule schedule = find_algorithm("ring").make(topology);
    for (Send& send : schedule.sends) send.after_receives = 0;
    return schedule;
  };
  CHECK(Simulation(hasty, {"ash", "elm", "oak"}, {}).run() != "");
}

TEST_CASE("the ring's schedule is the one that is drawn") {
  const Schedule schedule = find_algorithm("ring").make(Topology(0, 4));
  std::vector<int> sent;
  std::vector<int> received;
  for (const Send& send : schedule.sends) sent.push_back(send.chunk);
  for (const Receive& receive : schedule.receives) received.push_back(receive.chunk);
  CHECK(sent == std::vector<int>{3, 2, 1, 0, 3, 2});
  CHECK(received == std::vector<int>{2, 1, 0, 3, 2, 1});
  CHECK(schedule.sends[3] == Send{.to = 1, .chunk = 0, .after_receives = 3});
  CHECK(schedule.receives[2] == Receive{.from = 3, .chunk = 0, .action = Receive::Action::add_and_finish});
  CHECK(schedule.receives[3] == Receive{.from = 3, .chunk = 3, .action = Receive::Action::store, .after_sends = 1});
}

TEST_CASE("the direct exchange is the one that is drawn") {
  const Schedule schedule = find_algorithm("direct").make(Topology(0, 4));
  std::vector<int> sent;
  std::vector<int> received;
  for (const Send& send : schedule.sends) sent.push_back(send.chunk);
  for (const Receive& receive : schedule.receives) received.push_back(receive.chunk);
  CHECK(sent == std::vector<int>{1, 2, 3, 0, 0, 0});
  CHECK(received == std::vector<int>{0, 0, 0, 3, 2, 1});
  CHECK(schedule.sends[5] == Send{.to = 3, .chunk = 0, .after_receives = 3});
  CHECK(schedule.receives[2] == Receive{.from = 1, .chunk = 0, .action = Receive::Action::add_and_finish});
  CHECK(schedule.receives[3] == Receive{.from = 3, .chunk = 3, .action = Receive::Action::store, .after_sends = 3});
}

TEST_CASE("who is to blame: the later the step of a ring, the more ranks in between") {
  const MakeSchedule ring = find_algorithm("ring").make;
  const Topology topology(0, 4);
  CHECK(blamed_ranks(ring, topology, 0) == std::vector<int>{3});
  CHECK(blamed_ranks(ring, topology, 1) == std::vector<int>{3, 2});
  CHECK(blamed_ranks(ring, topology, 2) == std::vector<int>{3, 2, 1});
  CHECK(blamed_ranks(ring, topology, 5) == std::vector<int>{3, 2, 1});
  const MakeSchedule direct = find_algorithm("direct").make;
  CHECK(blamed_ranks(direct, topology, 1) == std::vector<int>{2});
  CHECK(blamed_ranks(direct, topology, 3) == std::vector<int>{3, 2, 1});
}

TEST_CASE("an algorithm that is not there") {
  CHECK_THROWS_WITH(find_algorithm("tree"), "comm.algorithm: expected ring or direct or mpi, found tree");
}

}  // namespace
}  // namespace dcs3gd::comm
