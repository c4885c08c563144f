#include "app/bench/schedule_replay.h"

#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include "core/error.h"

using namespace dcs3gd;
using namespace dcs3gd::app;
using doctest::Approx;

namespace {

const PaceOf kAsPlanned = [](std::size_t, int) { return Pace(); };

/// A float a nanosecond on the wire, unless said otherwise; nothing else takes time.
NetworkModel free_network() { return {.latency_ms = 0, .bytes_per_ms = 4e6, .segment_bytes = std::size_t{1} << 30}; }

const comm::AlgorithmInfo& algorithm(std::string_view name) { return comm::find_algorithm(name); }

double alone_ms(std::string_view name, int ranks, std::size_t floats, const NetworkModel& network) {
  const LinkTime time = replay_alone(algorithm(name), ranks, floats, network);
  return time.busy_ms + time.delay_ms;
}

/// The step of a rule that sends this at its end and waits for it at the end of the next one, replayed.
StepTimes replay_stale(int ranks, std::size_t floats, double compute_ms, const NetworkModel& network,
                       const PaceOf& pace = kAsPlanned, std::string_view name = "ring") {
  const StepPlan plan({{.elements = floats, .needed_ms = compute_ms, .ready_ms = compute_ms}}, compute_ms);
  return replay_steps(plan, {floats}, algorithm(name), network, ranks, pace, 3, 10);
}

}  // namespace

TEST_CASE("the ring alone takes 2(N-1) steps of a chunk's bytes, a latency, a message and its sum") {
  for (const int ranks : {2, 3, 4, 16}) {
    CAPTURE(ranks);
    NetworkModel network = free_network();
    const std::size_t floats = 16'000 * static_cast<std::size_t>(ranks);
    const double hops = 2.0 * (ranks - 1);
    CHECK(alone_ms("ring", ranks, floats, network) == Approx(hops * 0.016));
    network.latency_ms = 0.5;
    CHECK(alone_ms("ring", ranks, floats, network) == Approx(hops * 0.516));
    network.message_ms = 0.25;
    network.ms_per_float = 1e-6;  // half of the hops add
    CHECK(alone_ms("ring", ranks, floats, network) == Approx(hops * (0.766 + 0.008)));
    network.bits = 16;  // half of the bytes, but what is stored is converted
    CHECK(alone_ms("ring", ranks, floats, network) == Approx(hops * (0.758 + 0.016)));
  }
}

TEST_CASE("the direct exchange alone pays the bytes of the ring, but two latencies") {
  NetworkModel network = free_network();
  network.latency_ms = 0.5;
  for (const int ranks : {2, 4, 16}) {
    CAPTURE(ranks);
    const double hops = 2.0 * (ranks - 1);
    CHECK(alone_ms("direct", ranks, 16'000 * static_cast<std::size_t>(ranks), network) == Approx(hops * 0.016 + 1));
  }
}

TEST_CASE("segments hide the latency of a hop behind the bytes of the chunk") {
  NetworkModel network = free_network();
  network.latency_ms = 0.002;
  network.segment_bytes = 4000 * sizeof(float);
  // Four segments a chunk: the next hop begins while the last ones travel. Only the last hop's latency is paid.
  CHECK(alone_ms("ring", 4, 64'000, network) == Approx(6 * 0.016 + 0.002));
}

TEST_CASE("one rank sends nothing") {
  const NetworkModel network = free_network();
  CHECK(alone_ms("ring", 1, 1000, network) == 0);
  const StepTimes times = replay_stale(1, 1000, 7, network);
  CHECK(times.step_ms == Approx(7));
  CHECK(times.wait_ms == 0);
}

TEST_CASE("replayed with all ranks alike, a step is the longer of computing and what one rank's lists say") {
  NetworkModel network = free_network();
  network.latency_ms = 0.03;
  network.message_ms = 0.001;
  network.ms_per_float = 1e-7;
  network.segment_bytes = 60 << 10;
  for (const std::string_view name : {"ring", "direct"}) {
    for (const int ranks : {2, 3, 8, 13}) {
      CAPTURE(name);
      CAPTURE(ranks);
      const std::size_t floats = 208'000 * static_cast<std::size_t>(ranks);
      const double all_ms = alone_ms(name, ranks, floats, network);
      CHECK(replay_stale(ranks, floats, 0.5 * all_ms, network, kAsPlanned, name).step_ms ==
            Approx(all_ms).epsilon(1e-9));
      const StepTimes hidden = replay_stale(ranks, floats, 1.5 * all_ms, network, kAsPlanned, name);
      CHECK(hidden.step_ms == Approx(1.5 * all_ms));
      CHECK(hidden.wait_ms == Approx(0));
    }
  }
}

TEST_CASE("a link without limits leaves the slowest rank of each step, or the slowest in the long run") {
  NetworkModel network = free_network();
  network.bytes_per_ms = 1e30;
  // Ranks 0 and 1 take turns to need 30 ms instead of 10.
  const PaceOf turns = [](std::size_t step, int rank) {
    return Pace{.factor = step % 2 == static_cast<std::size_t>(rank) ? 3.0 : 1.0};
  };
  const StepPlan synchronous({{.elements = 16, .ready_ms = 10, .ends_its_step = true}}, 10);
  CHECK(replay_steps(synchronous, {16}, algorithm("ring"), network, 2, turns, 2, 10).step_ms == Approx(30));
  CHECK(replay_stale(2, 32, 10, network, turns).step_ms == Approx(20));
}

TEST_CASE("two ranks by hand: a late one, a bucket that is hidden and one that is not") {
  // 8 ms of computing; the last layers' bucket leaves at 4 and is needed at 2 of the next step, the first layers'
  // leaves at 8 and is needed at 0. Both exchanges take 2 · 1 ms. Rank 1 is 1 ms late in every step.
  NetworkModel network = free_network();
  network.bytes_per_ms = 4096;
  const StepPlan plan(
      {{.elements = 2048, .needed_ms = 2, .ready_ms = 4}, {.elements = 2048, .needed_ms = 0, .ready_ms = 8}}, 8);
  const PaceOf one_is_late = [](std::size_t, int rank) { return Pace{.late_ms = rank == 1 ? 1.0 : 0.0}; };
  const StepTimes times = replay_steps(plan, {2048, 2048}, algorithm("ring"), network, 2, one_is_late, 2, 5);
  // Rank 1: 1 late, 1 left to wait, 8 of computing. Rank 0 ends each step with it, and waits 2.
  CHECK(times.step_ms == Approx(10));
  CHECK(times.wait_ms == Approx(1.5));
  const std::vector<LinkTime> exchanges(2, LinkTime{.busy_ms = 2});
  const StepTimes modelled = predict_steps(plan, exchanges, 2, one_is_late, 2, 5);
  CHECK(modelled.step_ms == Approx(10));
  CHECK(modelled.wait_ms == Approx(1.5));
}

TEST_CASE("what is urgent waits for the messages that the link has already been given") {
  // Two ranks exchange 100 messages of 1 ms each way from the end of a step, and then a short one that is waited for at
  // once. Four are on the way before it; and each of its two hops meets one more.
  NetworkModel network = free_network();
  network.bytes_per_ms = 4096;
  network.segment_bytes = 4096;
  const StepPlan plan(
      {{.elements = 102'400, .needed_ms = 150, .ready_ms = 200}, {.elements = 32, .needed_ms = 0, .ready_ms = 200}},
      200);
  const StepTimes times = replay_steps(plan, {102'400, 32}, algorithm("ring"), network, 2, kAsPlanned, 2, 5);
  CHECK(times.wait_ms > 4);
  CHECK(times.wait_ms < 7);
  network.buffer_bytes = 20 * 4096;  // that the system takes whatever follows
  const double behind_ms = replay_steps(plan, {102'400, 32}, algorithm("ring"), network, 2, kAsPlanned, 2, 5).wait_ms;
  CHECK(behind_ms > 20);
  CHECK(behind_ms < 60);
}

TEST_CASE("where replaying ends and one shared link begins, both say the same") {
  NetworkModel network{.latency_ms = 0.02, .bytes_per_ms = 1.25e6, .message_ms = 0.001, .ms_per_float = 1e-7};
  std::vector<Average> averages;
  for (int bucket = 0; bucket < 8; ++bucket) {
    averages.push_back({.elements = 400'000, .needed_ms = 1.0 * bucket, .ready_ms = 30 - 2.5 * bucket});
  }
  const PaceOf uneven = [](std::size_t step, int rank) {
    return Pace{.late_ms = static_cast<double>((step * 7 + static_cast<std::size_t>(rank) * 5) % 11) / 2};
  };
  for (const std::string_view name : {"ring", "direct"}) {
    for (const bool is_barrier : {false, true}) {
      for (const double bits : {32.0, 8.0}) {
        CAPTURE(name);
        CAPTURE(is_barrier);
        CAPTURE(bits);
        network.bits = bits;
        for (Average& average : averages) average.ends_its_step = is_barrier;
        const StepPlan plan(averages, 30);
        const std::vector<LinkTime> times(8, replay_alone(algorithm(name), 8, 400'000, network));
        const double replayed =
            replay_steps(plan, std::vector<std::size_t>(8, 400'000), algorithm(name), network, 8, uneven, 3, 10)
                .step_ms;
        CHECK(predict_steps(plan, times, 8, uneven, 3, 10).step_ms == Approx(replayed).epsilon(0.03));
      }
    }
  }
}

TEST_CASE("a schedule in which not all ranks do alike is refused where one rank's lists speak for all") {
  const comm::AlgorithmInfo star{"star", "", false, [](const comm::Topology& topology) {
                                   comm::ScheduleWriter writer(topology);
                                   if (topology.rank() == 0)
                                     writer.receive(1, 0, comm::Receive::Action::add_and_finish);
                                   if (topology.rank() == 1) writer.send(0, 0);
                                   return writer.take();
                                 }};
  CHECK_THROWS_AS(replay_alone(star, 2, 100, free_network()), Error);
}
