#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "comm/communicator.h"
#include "comm/schedule/algorithms.h"
#include "comm/thread_world.h"
#include "core/format.h"
#include "tests/comm/counting_transport.h"

namespace dcs3gd::comm {
namespace {

Options options() { return {.segment_bytes = 64, .timeout_s = 30}; }

TEST_CASE("broadcast copies rank 0's bytes, whatever the length") {
  for (const int ranks : {1, 2, 3, 5, 16, 37}) {
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
  for (const int ranks : {1, 2, 3, 4, 7, 8, 16, 37}) {
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

TEST_CASE("gather_at_rank_0 brings everyone's text to rank 0, and a rank sends no more than its own") {
  const auto text_of = [](int rank) { return std::string(static_cast<std::size_t>(rank) * 100, '\0') + "end"; };
  for (const int ranks : {1, 2, 3, 7}) {
    std::vector<Traffic> traffic(static_cast<std::size_t>(ranks));
    const auto body = [&](Communicator& communicator) {
      const auto rank = static_cast<std::size_t>(communicator.rank());
      communicator.barrier();
      const std::uint64_t messages = traffic[rank].messages;
      const std::uint64_t bytes = traffic[rank].bytes;
      const std::vector<std::string> texts = communicator.gather_at_rank_0(text_of(communicator.rank()));
      if (traffic[rank].messages - messages != (rank == 0 ? 0U : 2U)) throw std::runtime_error("messages");
      if (rank > 0 && traffic[rank].bytes - bytes != 8 + text_of(communicator.rank()).size()) {
        throw std::runtime_error("bytes");
      }
      if (texts.size() != (rank == 0 ? traffic.size() : 0)) throw std::runtime_error("size");
      for (std::size_t from = 0; from < texts.size(); ++from) {
        if (texts[from] != text_of(static_cast<int>(from))) throw std::runtime_error(format("of {}", from));
      }
    };
    run_ranks_as_threads(ranks, options(), body, [&](std::unique_ptr<Transport> inner) {
      return std::make_unique<CountingTransport>(std::move(inner), traffic);
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

/// What a rank sends at most.
struct MostSent {
  std::uint64_t messages = 0;
  std::uint64_t empty_messages = 0;
};

/// The most that a rank sends in `body` beyond meeting and farewell.
MostSent most_sent(int ranks, const Options& settings, const std::function<void(Communicator&)>& body) {
  const auto most = [&](const std::function<void(Communicator&)>& calls) {
    std::vector<Traffic> by_rank(static_cast<std::size_t>(ranks));
    run_ranks_as_threads(ranks, settings, calls, [&](std::unique_ptr<Transport> transport) {
      return std::make_unique<CountingTransport>(std::move(transport), by_rank);
    });
    MostSent found;
    for (const Traffic& traffic : by_rank) {
      found.messages = std::max<std::uint64_t>(found.messages, traffic.messages);
      found.empty_messages = std::max<std::uint64_t>(found.empty_messages, traffic.empty_messages);
    }
    return found;
  };
  const MostSent alone = most([](Communicator&) {});
  const MostSent with_body = most(body);
  return {with_body.messages - alone.messages, with_body.empty_messages};
}

TEST_CASE("among many ranks each sends few messages, and none is empty") {
  constexpr int kRanks = 37;
  constexpr std::size_t kRounds = 6;  // of doubling from 1 to 37
  const MostSent barrier = most_sent(kRanks, options(), [](Communicator& communicator) { communicator.barrier(); });
  CHECK(barrier.messages == kRounds);
  CHECK(barrier.empty_messages == 0);
  const MostSent gather = most_sent(kRanks, options(), [](Communicator& communicator) { communicator.gather(1); });
  CHECK(gather.messages == 2 * kRounds);
  const MostSent broadcast = most_sent(kRanks, options(), [](Communicator& communicator) {
    std::vector<std::byte> bytes(30 * 64);
    communicator.broadcast(bytes);
  });
  CHECK(broadcast.messages == 2 * 30);
  for (const AlgorithmInfo& algorithm : algorithms()) {
    Options settings = options();
    settings.algorithm = algorithm.name;
    const MostSent all_reduce = most_sent(kRanks, settings, [](Communicator& communicator) {
      std::vector<float> values(3);
      communicator.plan_all_reduce({.values = values}).start().wait();
    });
    INFO(algorithm.name);
    CHECK(all_reduce.empty_messages == 0);
    CHECK(all_reduce.messages < kRanks);
  }
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
