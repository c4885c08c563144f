#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include "comm/schedule/algorithms.h"
#include "comm/schedule/chunks.h"
#include "core/format.h"
#include "tests/comm/schedule_simulation.h"

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
