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
  std::size_t next = 0;
  for (int chunk = 0; chunk < chunk_count; ++chunk) {
    const Range range = chunk_range(floats, chunk_count, chunk);
    REQUIRE(range.first == next);
    REQUIRE((range.count == 0 || range.first % kLineFloats == 0));
    for (std::size_t segment = 0; segment < segment_count(range, segment_floats); ++segment) {
      const Range part = segment_range(range, segment_floats, segment);
      REQUIRE(part.first == next);
      REQUIRE(part.count <= segment_floats);
      REQUIRE(part.count > 0);
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
    const Range last = segment_range(range, kSegment, segment_count(range, kSegment) - 1);
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

TEST_CASE("the ranks of a host are neighbours, whatever order mpirun gave them") {
  const Topology dealt_out(3, 5, {"ash", "elm", "oak", "ash", "elm"});
  CHECK(dealt_out.ranks_by_host() == std::vector<std::vector<int>>{{0, 3}, {1, 4}, {2}});
  const Topology ordered = dealt_out.host_by_host();
  CHECK(ordered.rank() == 1);
  CHECK(ordered.hosts() == std::vector<std::string>{"ash", "ash", "elm", "elm", "oak"});
  CHECK(ordered.describe(ordered.rank_right()) == "rank 1 on elm");
  CHECK(ordered.ranks_by_host() == std::vector<std::vector<int>>{{0, 1}, {2, 3}, {4}});
  CHECK(Topology(0, 5, {}, 2).ranks_by_host() == std::vector<std::vector<int>>{{0, 1}, {2, 3}, {4}});
  CHECK(Topology(0, 3).ranks_by_host() == std::vector<std::vector<int>>{{0, 1, 2}});
}

/// Hosts h0, h1, … of these numbers of ranks; the ranks dealt out to them in turn.
Topology hosts_of(std::vector<int> ranks) {
  std::vector<std::string> names;
  for (bool more = true; more;) {
    more = false;
    for (std::size_t host = 0; host < ranks.size(); ++host) {
      if (ranks[host]-- <= 0) continue;
      names.push_back(format("h{}", host));
      more = true;
    }
  }
  const auto count = static_cast<int>(names.size());
  return {0, count, std::move(names)};
}

void check_schedules(const Topology& ranks, const std::vector<Simulation::Tuning>& tunings) {
  for (const AlgorithmInfo& algorithm : algorithms()) {
    if (!algorithm.has_schedule()) continue;
    for (const Simulation::Tuning& tuning : tunings) {
      INFO(algorithm.name, ", ", ranks.size(), " ranks, ", tuning.segments, " segments, ", tuning.window, " in flight");
      CHECK(Simulation(algorithm.make, ranks, tuning).run() == "");
    }
  }
}

TEST_CASE("every schedule brings each summand to each rank once, with the same bits, and never stands still") {
  const std::vector<Simulation::Tuning> tunings{{1, 1}, {1, 4}, {3, 1}, {3, 4}};
  for (int ranks = 1; ranks <= 17; ++ranks) {
    check_schedules(Topology(0, ranks), tunings);
    check_schedules(hosts_of(std::vector<int>(static_cast<std::size_t>((ranks + 2) / 3), 3)), tunings);
    check_schedules(hosts_of(std::vector<int>(static_cast<std::size_t>(ranks), 1)), tunings);
  }
  for (const int ranks : {24, 33}) check_schedules(Topology(0, ranks), tunings);
}

TEST_CASE("hosts of unequal size, and many ranks: powers of two, odd, prime") {
  for (const std::vector<int>& hosts : {std::vector{1, 2}, {3, 1}, {5, 2, 1}, {1, 7, 4, 4}, {2, 2, 2, 1}, {16, 1, 1}}) {
    check_schedules(hosts_of(hosts), {{1, 1}, {3, 4}});
  }
  for (const int ranks : {63, 64, 67}) check_schedules(Topology(0, ranks), {{1, 4}});
  check_schedules(hosts_of({17, 1, 9, 30, 10}), {{1, 4}});
  check_schedules(hosts_of(std::vector<int>(16, 4)), {{1, 4}});
}

TEST_CASE("256 ranks on the bf16 wire: right, and by how much direct and hierarchical round") {
  for (const Topology& ranks : {hosts_of(std::vector<int>(32, 8)), hosts_of({100, 1, 60, 64, 31}), hosts_of({251})}) {
    for (const AlgorithmInfo& algorithm : algorithms()) {
      if (!algorithm.has_schedule()) continue;
      INFO(algorithm.name, " on ", ranks.size(), " ranks");
      Simulation simulation(algorithm.make, ranks, {.window = 4, .wire = Wire::bf16});
      CHECK(simulation.run() == "");
      const double roundings = algorithm.name == "ring" ? ranks.size() : algorithm.name == "halving_doubling" ? 9 : 2;
      CHECK(simulation.worst_error() <= roundings / 256);
    }
  }
}

TEST_CASE("halving and doubling takes few messages, whatever the number of ranks") {
  for (const auto& [ranks, most] : {std::pair{2, 2}, {3, 4}, {8, 6}, {17, 11}, {256, 16}, {1000, 21}, {10007, 29}}) {
    std::size_t messages = 0;
    for (const int rank : {0, 1, ranks / 2, ranks - 1}) {
      const Schedule schedule = find_algorithm("halving_doubling").make(Topology(rank, ranks));
      messages = std::max({messages, schedule.sends.size(), schedule.receives.size()});
    }
    CHECK(messages <= static_cast<std::size_t>(most));
  }
}

TEST_CASE("a simulation sees a schedule that is wrong") {
  const auto stuck = [](const Topology& topology) {
    Schedule schedule = find_algorithm("ring").make(topology);
    std::ranges::reverse(schedule.receives);
    return schedule;
  };
  CHECK(Simulation(stuck, Topology(0, 3), {}).run() != "");
  const auto hasty = [](const Topology& topology) {
    Schedule schedule = find_algorithm("ring").make(topology);
    for (Send& send : schedule.sends) send.after_receives = 0;
    return schedule;
  };
  CHECK(Simulation(hasty, Topology(0, 3), {}).run() != "");
}

TEST_CASE("the ring's schedule is the one that is drawn") {
  const Schedule schedule = find_algorithm("ring").make(Topology(0, 4));
  std::vector<int> sent;
  std::vector<int> received;
  for (const Send& send : schedule.sends) sent.push_back(send.run.chunk);
  for (const Receive& receive : schedule.receives) received.push_back(receive.run.chunk);
  CHECK(sent == std::vector<int>{3, 2, 1, 0, 3, 2});
  CHECK(received == std::vector<int>{2, 1, 0, 3, 2, 1});
  CHECK(schedule.sends[3] == Send{.to = 1, .run = {.chunk = 0}, .after_receives = 3, .is_finished = true});
  CHECK(schedule.receives[2] == Receive{.from = 3, .run = {.chunk = 0}, .action = Receive::Action::add_and_finish});
  CHECK(schedule.receives[3] ==
        Receive{.from = 3, .run = {.chunk = 3}, .action = Receive::Action::store, .after_sends = 1});
}

TEST_CASE("the direct exchange is the one that is drawn") {
  const Schedule schedule = find_algorithm("direct").make(Topology(0, 4));
  std::vector<int> sent;
  std::vector<int> received;
  for (const Send& send : schedule.sends) sent.push_back(send.run.chunk);
  for (const Receive& receive : schedule.receives) received.push_back(receive.run.chunk);
  CHECK(sent == std::vector<int>{1, 2, 3, 0, 0, 0});
  CHECK(received == std::vector<int>{0, 0, 0, 3, 2, 1});
  CHECK(schedule.sends[2] == Send{.to = 3, .run = {.chunk = 3}});
  CHECK(schedule.sends[5] == Send{.to = 3, .run = {.chunk = 0}, .after_receives = 3, .is_finished = true});
  CHECK(schedule.receives[2] == Receive{.from = 1, .run = {.chunk = 0}, .action = Receive::Action::add_and_finish});
  CHECK(schedule.receives[3] ==
        Receive{.from = 3, .run = {.chunk = 3}, .action = Receive::Action::store, .after_sends = 3});
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

TEST_CASE(
    "auto: shared memory where there is some, else few floats go few hops, then it is the hosts, else the ring while "
    "the wire allows it") {
  constexpr std::size_t kMany = 1 << 20;
  const auto choice = [](const Topology& ranks, std::size_t floats, Wire wire = Wire::fp32) {
    return choose_algorithm(kAutomatic, ranks, floats, wire, false).name;
  };
  CHECK(choice(Topology(0, 4), 32768) == "halving_doubling");
  CHECK(choice(Topology(0, 4), 32769) == "ring");
  CHECK(choice(hosts_of({2, 2}), 1000) == "halving_doubling");
  CHECK(choice(hosts_of({2, 2}), kMany) == "hierarchical");
  CHECK(choice(hosts_of({2, 1}), kMany) == "hierarchical");
  CHECK(choice(hosts_of({4}), kMany) == "ring");
  CHECK(choice(hosts_of({1, 1, 1, 1}), kMany) == "ring");
  CHECK(choice(Topology(0, 17), kMany) == "ring");
  CHECK(choice(Topology(0, 17), kMany, Wire::bf16) == "direct");
  CHECK(choice(Topology(0, 16), kMany, Wire::bf16) == "ring");
  for (const Wire wire : {Wire::int8, Wire::int4}) {
    CHECK(choice(hosts_of({2, 2}), 1000, wire) == "hierarchical");
    CHECK(choice(Topology(0, 4), 1000, wire) == "direct");
    CHECK(choice(Topology(0, 4), 0, wire) == "halving_doubling");  // nothing but a tail, which is never rounded
  }
  CHECK(choose_algorithm("direct", hosts_of({2, 2}), 1000, Wire::fp32, true).name == "direct");
  for (const std::string_view name : {kAutomatic, kSharedMemory}) {
    CHECK(choose_algorithm(name, hosts_of({4}), kMany, Wire::fp32, true).name == "shared");
    CHECK(choose_algorithm(name, hosts_of({4}), kMany, Wire::fp32, false).name == "ring");
  }
}

TEST_CASE("an algorithm that is not there") {
  CHECK_THROWS_WITH(
      find_algorithm("tree"),
      "comm.algorithm: expected ring or direct or halving_doubling or hierarchical or shared or mpi or auto, "
      "found tree");
}

}  // namespace
}  // namespace dcs3gd::comm
