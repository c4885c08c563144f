#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <sys/resource.h>

#include "comm/communicator.h"
#include "comm/host_memory.h"
#include "comm/thread_world.h"
#include "core/error.h"
#include "core/format.h"
#include "core/random_stream.h"
#include "core/stopwatch.h"
#include "tests/comm/all_reduce_checks.h"

namespace dcs3gd::comm {
namespace {

Options sharing(double timeout_s = 30) { return {.algorithm = "shared", .timeout_s = timeout_s}; }

/// An array that can be summed in place.
struct Array {
  Array(Communicator& communicator, std::size_t floats)
      : memory(communicator.allocate(floats)), values(memory.get(), floats) {}

  std::shared_ptr<float> memory;
  std::span<float> values;
};

void expect(bool is_right, const std::string& what) {
  if (!is_right) throw std::runtime_error(what);
}

TEST_CASE("shared memory: every element of every length, copied back and in place") {
  for (const int ranks : {2, 3, 4, 7}) {
    run_ranks_as_threads(ranks, sharing(), [&](Communicator& communicator) {
      for (const std::size_t floats : {0, 1, 15, 16, 17, 113, 1000, 100003}) {
        for (const bool leaves_parts : {false, true}) {
          const std::string finding = check_all_reduce(
              communicator, {.floats = floats, .tail = 3, .factor = 0.25F, .leaves_parts = leaves_parts});
          expect(finding.empty(), finding);
        }
      }
    });
  }
}

TEST_CASE("shared memory: sums are taken in the order of the ranks, and no wire rounds them") {
  constexpr std::size_t kFloats = 1003;
  const auto value = [](int rank, std::size_t index) {
    return RandomStream(5, RandomPurpose::test, static_cast<std::uint64_t>(rank) * kFloats + index).normal();
  };
  run_ranks_as_threads(3, sharing(), [&](Communicator& communicator) {
    const Array array(communicator, kFloats);
    for (std::size_t i = 0; i < kFloats; ++i) array.values[i] = value(communicator.rank(), i);
    AllReducePlan plan = communicator.plan_all_reduce({.values = array.values, .factor = 0.1F, .wire = Wire::bf16});
    expect(plan.algorithm() == kSharedMemory, "not shared");
    plan.start().wait();
    for (std::size_t i = 0; i < kFloats; ++i) {
      const float sum = value(0, i) + value(1, i);
      expect(array.values[i] == 0.1F * (sum + value(2, i)), format("element {}", i));
    }
  });
}

TEST_CASE("shared memory: several plans in flight, again and again, their results read late and in place") {
  constexpr int kRounds = 40;
  for (const int ranks : {2, 3, 4}) {
    run_ranks_as_threads(ranks, sharing(), [&](Communicator& communicator) {
      RandomStream random(3, RandomPurpose::test, static_cast<std::uint64_t>(communicator.rank()));
      std::vector<Array> arrays;
      std::vector<AllReducePlan> plans;
      for (const std::size_t floats : {20011, 5, 300, 40000}) {
        arrays.emplace_back(communicator, floats);
        plans.push_back(communicator.plan_all_reduce({.values = arrays.back().values,
                                                      .factor = 1,
                                                      .leaves_parts = true,
                                                      .urgency = static_cast<int>(plans.size())}));
      }
      for (int round = 0; round < kRounds; ++round) {
        std::vector<Ticket> tickets;
        for (std::size_t i = 0; i < plans.size(); ++i) {
          std::ranges::fill(arrays[i].values, static_cast<float>(communicator.rank() + round));
          tickets.push_back(plans[i].start());
        }
        const auto expected = static_cast<float>(ranks * round + ranks * (ranks - 1) / 2);
        for (std::size_t i = plans.size(); i-- > 0;) {
          tickets[i].wait();
          std::ranges::fill(arrays[i].values, -1.0F);  // they are the rank's own again
          if (random.below(8) == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
          for (const ResultPart& part : plans[i].parts()) {
            expect(std::ranges::count(part.values, expected) == static_cast<std::ptrdiff_t>(part.values.size()),
                   format("round {}, plan {}", round, i));
          }
        }
      }
    });
  }
  Options settings = sharing();
  run_ranks_as_threads(3, settings, [](Communicator& communicator) {
    const std::string finding = check_plans_in_flight(communicator);
    expect(finding.empty(), finding);
  });
}

TEST_CASE("shared memory: a result is there for those who still read it when another rank's plan has gone") {
  std::atomic<int> gone = 0;
  run_ranks_as_threads(2, sharing(), [&](Communicator& communicator) {
    const Array array(communicator, 100000);
    std::ranges::fill(array.values, 1.0F);
    std::optional<AllReducePlan> plan =
        communicator.plan_all_reduce({.values = array.values, .factor = 1, .leaves_parts = true});
    plan->start().wait();
    if (communicator.rank() == 1) {
      plan.reset();
      ++gone;
    }
    while (gone == 0) std::this_thread::yield();
    // What rank 1 plans next must not take the place of what rank 0 reads.
    const Array other(communicator, 100000);
    AllReducePlan other_plan = communicator.plan_all_reduce({.values = other.values, .leaves_parts = true});
    other_plan.start().wait();
    for (const ResultPart& part : plan ? plan->parts() : std::span<const ResultPart>()) {
      expect(std::ranges::count(part.values, 2.0F) == static_cast<std::ptrdiff_t>(part.values.size()), "gone");
    }
  });
}

TEST_CASE("values outside the memory that is shared travel, and auto does as shared does") {
  run_ranks_as_threads(2, sharing(), [](Communicator& communicator) {
    std::vector<float> values(100000, 1.0F);
    AllReducePlan plan = communicator.plan_all_reduce({.values = values});
    expect(plan.algorithm() == "ring", std::string(plan.algorithm()));
    plan.start().wait();
    expect(values == std::vector(100000, 1.0F), "average");
  });
  for (const auto& [ranks_per_host, algorithm] : {std::pair{4, "shared"}, {2, "hierarchical"}}) {
    run_ranks_as_threads(
        4, {.algorithm = "auto", .ranks_per_host = ranks_per_host},
        [&, algorithm = algorithm](Communicator& communicator) {
          expect(communicator.algorithm_for(100000) == algorithm, "choice");
          const Array array(communicator, 100000);
          expect(communicator.plan_all_reduce({.values = array.values}).algorithm() == algorithm, "all");
          expect(communicator.plan_all_reduce({.values = array.values, .group = Group::host}).algorithm() == "shared",
                 "host");
        });
  }
}

TEST_CASE("shared memory: hosts of one rank and of several keep step") {
  run_ranks_as_threads(3, {.algorithm = "auto", .ranks_per_host = 2}, [](Communicator& communicator) {
    const Array array(communicator, 1000);
    AllReducePlan of_host = communicator.plan_all_reduce({.values = array.values, .group = Group::host});
    AllReducePlan of_all = communicator.plan_all_reduce({.values = array.values});
    for (int round = 0; round < 3; ++round) {
      std::ranges::fill(array.values, static_cast<float>(communicator.rank()));
      of_host.start().wait();
      expect(array.values.back() == (communicator.rank() == 2 ? 2 : 0.5F), "host");
      of_all.start().wait();
      expect(std::abs(array.values.back() - 1) < 1e-6F, "all");
    }
  });
}

Options on_hosts(int ranks_per_host, std::string_view algorithm = "hierarchical", double timeout_s = 30) {
  return {.algorithm = std::string(algorithm), .ranks_per_host = ranks_per_host, .timeout_s = timeout_s};
}

/// Where the averages of a plan for so many values of an Array lie.
std::size_t part_count(Communicator& communicator, std::span<float> values) {
  return communicator.plan_all_reduce({.values = values, .leaves_parts = true}).parts().size();
}

TEST_CASE("several hosts: each sums in its own memory, and its ranks with those in their places on the others") {
  for (const auto& [ranks, ranks_per_host] : {std::pair{4, 2}, {6, 2}, {6, 3}, {12, 4}}) {
    run_ranks_as_threads(ranks, on_hosts(ranks_per_host), [&, per_host = ranks_per_host](Communicator& communicator) {
      const Array array(communicator, 1000);
      expect(part_count(communicator, array.values) == static_cast<std::size_t>(per_host), "not in memory");
      for (const std::size_t floats : {0, 1, 15, 16, 17, 113, 1000, 100003}) {
        for (const Wire wire : {Wire::fp32, Wire::bf16}) {
          for (const bool leaves_parts : {false, true}) {
            const std::string finding = check_all_reduce(
                communicator,
                {.floats = floats, .tail = 3, .wire = wire, .factor = 0.25F, .leaves_parts = leaves_parts});
            expect(finding.empty(), finding);
          }
        }
      }
    });
  }
  run_ranks_as_threads(6, on_hosts(2, "auto"), [](Communicator& communicator) {
    const std::string finding = check_plans_in_flight(communicator);
    expect(finding.empty(), finding);
  });
}

TEST_CASE("several hosts: where one rank has its values elsewhere, or hosts differ in size, all send messages") {
  run_ranks_as_threads(4, on_hosts(2), [](Communicator& communicator) {
    const Array array(communicator, 1000);
    std::vector<float> elsewhere(1000);
    const std::span<float> values = communicator.rank() == 3 ? std::span(elsewhere) : array.values;
    std::ranges::fill(values, 1.0F);
    AllReducePlan plan = communicator.plan_all_reduce({.values = values, .factor = 1, .leaves_parts = true});
    expect(plan.parts().size() == 1 && plan.algorithm() == "hierarchical", "in memory");
    plan.start().wait();
    expect(std::ranges::count(values, 4.0F) == 1000, "sum");
  });
  run_ranks_as_threads(5, on_hosts(2), [](Communicator& communicator) {
    const Array array(communicator, 1000);
    expect(part_count(communicator, array.values) == 1, "in memory");
  });
}

TEST_CASE("several hosts: all have the same bits, whose sums are taken within hosts first") {
  constexpr std::size_t kFloats = 5003;
  const auto values_of = [](int rank) {
    RandomStream random(6, RandomPurpose::test, static_cast<std::uint64_t>(rank));
    std::vector<float> values(kFloats);
    for (float& value : values) value = random.normal();
    return values;
  };
  run_ranks_as_threads(4, on_hosts(2), [&](Communicator& communicator) {
    const Array array(communicator, kFloats);
    std::ranges::copy(values_of(communicator.rank()), array.values.begin());
    communicator.plan_all_reduce({.values = array.values, .factor = 0.1F}).start().wait();
    expect(check_same_bits(communicator, array.values.data(), array.values.size_bytes()).empty(), "bits");
    const std::vector<float> a = values_of(0), b = values_of(1), c = values_of(2), d = values_of(3);
    for (std::size_t i = 0; i < kFloats; ++i) {
      expect(array.values[i] == 0.1F * ((a[i] + b[i]) + (c[i] + d[i])), format("element {}", i));
    }
  });
}

TEST_CASE("where the system gives no memory to share, ranks send messages") {
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);  // should this test's own output go to a file
  const rlimit nothing{.rlim_cur = 1 << 20, .rlim_max = before.rlim_max};
  REQUIRE(setrlimit(RLIMIT_FSIZE, &nothing) == 0);
  std::string finding;
  run_ranks_as_threads(2, sharing(), [&](Communicator& communicator) {
    expect(communicator.algorithm_for(100003) == "ring", "choice");
    const std::string own = check_all_reduce(communicator, {.floats = 100003, .tail = 3, .leaves_parts = true});
    if (communicator.rank() == 0) finding = own;
  });
  REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);
  std::signal(SIGXFSZ, handler);
  CHECK(finding == "");
}

/// What ranks 1 and 2 hear when rank 0 does not start what all have planned, but this.
std::vector<std::string> messages_when(const Options& options, const std::function<void(Communicator&)>& rank_0,
                                       int ranks = 3) {
  std::mutex mutex;
  std::vector<std::string> messages;
  try {
    run_ranks_as_threads(ranks, options, [&](Communicator& communicator) {
      const Array array(communicator, 1000);
      AllReducePlan plan = communicator.plan_all_reduce({.values = array.values});
      if (communicator.rank() == 0) {
        rank_0(communicator);
        return;
      }
      try {
        plan.start().wait();
      } catch (const Error& error) {
        const std::lock_guard lock(mutex);
        messages.emplace_back(error.what());
        throw;
      }
    });
  } catch (const std::exception&) {
  }
  return messages;
}

TEST_CASE("shared memory: a rank that does not come is named, one that fails ends the others at once") {
  const std::vector<std::string> late =
      messages_when(sharing(0.3), [](Communicator&) { std::this_thread::sleep_for(std::chrono::seconds(3)); });
  REQUIRE(late.size() == 2);
  CHECK(std::ranges::any_of(late, [](const std::string& message) {
    return message.find("shared all-reduce of 1,000 floats, step 1 of 2: no progress for ") != std::string::npos &&
           message.find("nothing comes from rank 0 on ") != std::string::npos;
  }));
  const std::vector<std::string> on_hosts_of_two = messages_when(
      on_hosts(2, "hierarchical", 1.2), [](Communicator&) { std::this_thread::sleep_for(std::chrono::seconds(3)); }, 4);
  const auto is_told = [&](const char* operation, const char* who) {
    return std::ranges::any_of(on_hosts_of_two, [&](const std::string& message) {
      return message.find(operation) != std::string::npos && message.find(who) != std::string::npos;
    });
  };
  CHECK(on_hosts_of_two.size() == 3);
  CHECK(is_told("hierarchical all-reduce of 1,000 floats, within the host: no progress",
                "nothing comes from rank 0 on "));
  const Stopwatch stopwatch;
  for (const std::string& message :
       messages_when(sharing(60), [](Communicator& communicator) { communicator.abort("the disk is full"); })) {
    CHECK(message.find("the disk is full") != std::string::npos);
  }
  CHECK(stopwatch.elapsed_s() < 30);
}

TEST_CASE("shared memory: those left when a rank dies share theirs") {
  std::atomic<int> done = 0;
  run_ranks_as_threads(3, sharing(), [&](Communicator& communicator) {
    const Array array(communicator, 1000);
    const auto average = [&] {
      std::ranges::fill(array.values, 1.0F);
      AllReducePlan plan = communicator.plan_all_reduce({.values = array.values, .factor = 1});
      expect(plan.algorithm() == kSharedMemory, "not shared");
      plan.start().wait();
      return array.values.back();
    };
    expect(average() == 3, "three");
    ++done;
    while (done < 3) std::this_thread::yield();
    if (communicator.rank() == 2) throw RankDies();
    try {
      average();
      throw std::runtime_error("nobody missed rank 2");
    } catch (const Error&) {
      expect(communicator.has_lost_ranks(), "lost ranks");
    }
    expect(communicator.regroup().starts_with("rank 2"), "who");
    expect(average() == 2, "two");
  });
}

TEST_CASE("several hosts: those left when ranks die sum by messages, or in memory if hosts are equal") {
  for (const int dies_too : {0, 1}) {
    std::atomic<int> done = 0;
    run_ranks_as_threads(6, on_hosts(2), [&](Communicator& communicator) {
      const Array array(communicator, 1000);
      const auto average = [&](std::size_t parts) {
        std::ranges::fill(array.values, 1.0F);
        AllReducePlan plan = communicator.plan_all_reduce({.values = array.values, .factor = 1, .leaves_parts = true});
        expect(plan.parts().size() == parts, format("{} parts", plan.parts().size()));
        plan.start().wait();
        return plan.parts().back().values.back();
      };
      expect(average(2) == 6, "six");
      ++done;
      while (done < 6) std::this_thread::yield();
      if (communicator.rank() == 5 || (dies_too == 1 && communicator.rank() == 4)) throw RankDies();
      const int left = 5 - dies_too;
      try {
        average(2);
        throw std::runtime_error("nobody missed rank 5");
      } catch (const Error&) {
        expect(communicator.has_lost_ranks(), "lost ranks");
      }
      while (true) {
        try {
          communicator.regroup();
          if (communicator.size() == left) break;
          average(1);
        } catch (const Error&) {
          expect(communicator.has_lost_ranks(), "lost ranks");
        }
      }
      expect(average(dies_too == 1 ? 2 : 1) == static_cast<float>(left), "left");
    });
  }
}

TEST_CASE("host memory: blocks are zeroed, apart, and go back; another one's is not taken for a neighbour's") {
  HostMemory memory(1);
  HostMemory other(1);
  REQUIRE(memory.connect({memory.address(), other.address()}) == "");
  {
    const std::shared_ptr<std::byte> small = memory.allocate(100);
    const std::shared_ptr<std::byte> large = memory.allocate(3 << 20);
    REQUIRE(small);
    REQUIRE(large);
    std::memset(small.get(), 1, 100);
    CHECK(std::ranges::count(std::span(large.get(), 3 << 20), std::byte{0}) == 3 << 20);
    CHECK(memory.at(0, memory.offset_of(small.get()))[99] == std::byte{1});
    CHECK(memory.offset_of(&memory) == HostMemory::kNowhere);
    CHECK_FALSE(memory.allocate(std::size_t{1} << 60));
  }
  const std::shared_ptr<std::byte> again = memory.allocate(100);
  CHECK(again.get()[99] == std::byte{0});

  std::string forged = other.address();
  constexpr std::size_t kOfNonce = 1 + 2 * sizeof(std::int64_t);
  forged[kOfNonce] = static_cast<char>(forged[kOfNonce] + 1);
  CHECK(memory.connect({memory.address(), forged}) == "another rank's memory is not on this system");
  CHECK(memory.connect({memory.address(), "not today"}) == "not today");
}

TEST_CASE("host memory: what was retired goes when all have retired it") {
  HostMemory memory(1);
  std::weak_ptr<std::byte> board;
  {
    std::shared_ptr<std::byte> first = memory.allocate(10);
    board = first;
    memory.retire(1, std::move(first));
  }
  memory.retire(2, memory.allocate(10));
  using Lists = std::vector<std::vector<std::uint64_t>>;
  memory.release(Lists{memory.retired(), {2}});
  CHECK_FALSE(board.expired());
  CHECK(memory.retired() == std::vector<std::uint64_t>{1});
  memory.release(Lists{memory.retired(), {3, 1}});
  CHECK(board.expired());
}

}  // namespace
}  // namespace dcs3gd::comm
