#include <atomic>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "comm/communicator.h"
#include "comm/thread_world.h"
#include "core/format.h"

namespace dcs3gd::comm {
namespace {

Options options() { return {.segment_bytes = 64, .timeout_s = 30}; }

TEST_CASE("broadcast copies rank 0's bytes, whatever the length") {
  for (const int ranks : {1, 2, 3, 5}) {
    run_ranks_as_threads(ranks, options(), [&](Communicator& communicator) {
      for (const std::size_t length : {0U, 1U, 63U, 64U, 65U, 1000U}) {
        std::vector<unsigned char> bytes(length);
        for (std::size_t i = 0; i < length; ++i) {
          bytes[i] = static_cast<unsigned char>(communicator.rank() == 0 ? i * 7 + 1 : 0);
        }
        communicator.broadcast(std::as_writable_bytes(std::span(bytes)));
        for (std::size_t i = 0; i < length; ++i) {
          if (bytes[i] != static_cast<unsigned char>(i * 7 + 1)) throw std::runtime_error(format("byte {}", i));
        }
      }
    });
  }
}

TEST_CASE("all_gather brings everyone's text to everyone, of different lengths and with zero bytes") {
  for (const int ranks : {1, 2, 3, 4, 8}) {
    const auto text_of = [](int rank) { return std::string(static_cast<std::size_t>(rank) * 100, '\0') + "end"; };
    run_ranks_as_threads(ranks, options(), [&](Communicator& communicator) {
      const std::vector<std::string> texts = communicator.all_gather(text_of(communicator.rank()));
      if (static_cast<int>(texts.size()) != ranks) throw std::runtime_error("size");
      for (int rank = 0; rank < ranks; ++rank) {
        if (texts[static_cast<std::size_t>(rank)] != text_of(rank)) throw std::runtime_error(format("of {}", rank));
      }
    });
  }
}

TEST_CASE("gather brings everyone's value to everyone, from_rank_0 that of rank 0") {
  struct Numbers {
    double real;
    int whole;
  };
  for (const int ranks : {1, 2, 3, 5}) {
    run_ranks_as_threads(ranks, options(), [&](Communicator& communicator) {
      const int rank = communicator.rank();
      const std::vector<Numbers> all = communicator.gather(Numbers{0.5 * rank, rank + 1});
      if (static_cast<int>(all.size()) != ranks) throw std::runtime_error("size");
      for (int other = 0; other < ranks; ++other) {
        const Numbers& numbers = all[static_cast<std::size_t>(other)];
        if (numbers.real != 0.5 * other || numbers.whole != other + 1) throw std::runtime_error(format("of {}", other));
      }
      for (const std::size_t length : {0U, 1U, 1000U}) {
        const std::string wanted(length, 'x');
        if (communicator.from_rank_0(rank == 0 ? wanted : "another text") != wanted) throw std::runtime_error("text");
      }
    });
  }
}

TEST_CASE("nobody passes the barrier before everybody has come") {
  constexpr int kRanks = 4;
  std::atomic<int> arrived = 0;
  run_ranks_as_threads(kRanks, options(), [&](Communicator& communicator) {
    for (int round = 1; round <= 20; ++round) {
      if (communicator.rank() == round % kRanks) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      ++arrived;
      communicator.barrier();
      if (arrived < round * kRanks) throw std::runtime_error(format("round {}", round));
      communicator.barrier();
    }
  });
}

TEST_CASE("ranks, hosts and cores are known from the start") {
  run_ranks_as_threads(3, options(), [&](Communicator& communicator) {
    if (communicator.size() != 3 || communicator.places().size() != 3) throw std::runtime_error("size");
    if (communicator.host() != find_own_place().host) throw std::runtime_error("host");
    if (communicator.places()[2] != find_own_place()) throw std::runtime_error("place");
  });
}

TEST_CASE("a process started by hand is a world of its own") {
  const auto communicator = Communicator::open({});
  CHECK(communicator->rank() == 0);
  CHECK(communicator->size() == 1);
  std::vector<float> values{1, 2, 3};
  std::vector<float> tail{4};
  communicator->plan_all_reduce({.values = values, .tail = tail}).start().wait();
  CHECK(values == std::vector<float>{1, 2, 3});
  CHECK(tail == std::vector<float>{4});
  communicator->plan_all_reduce({.values = values, .tail = tail, .factor = 0.5F}).start().wait();
  CHECK(values == std::vector<float>{0.5F, 1, 1.5F});
  CHECK(tail == std::vector<float>{4});
  communicator->barrier();
  communicator->broadcast(std::as_writable_bytes(std::span(values)));
  CHECK(communicator->all_gather("x") == std::vector<std::string>{"x"});
  CHECK(communicator->gather(7) == std::vector<int>{7});
  CHECK(communicator->from_rank_0("x") == "x");
}

}  // namespace
}  // namespace dcs3gd::comm
