#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "comm/communicator.h"
#include "comm/thread_world.h"
#include "core/error.h"
#include "core/format.h"
#include "core/stopwatch.h"

namespace dcs3gd::comm {
namespace {

/// The message of the Error{kind} that `body` must throw.
template <typename Body>
std::string message_of(ErrorKind kind, Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    CHECK(error.kind() == kind);
    return error.what();
  }
  return "no error";
}

/// Runs `body` where rank `missing` stays away until the others have given up; the messages of their errors.
std::vector<std::string> messages_without(int missing, int ranks, const Options& options,
                                          const std::function<void(Communicator&)>& body) {
  std::mutex mutex;
  std::vector<std::string> messages;
  try {
    run_ranks_as_threads(ranks, options, [&](Communicator& communicator) {
      if (communicator.rank() == missing) {
        const Stopwatch stopwatch;
        while (stopwatch.elapsed_s() < 20 * options.timeout_s) {
          std::this_thread::sleep_for(std::chrono::milliseconds(5));
          const std::lock_guard lock(mutex);
          if (static_cast<int>(messages.size()) == ranks - 1) break;
        }
        throw std::runtime_error("done");
      }
      std::string message = "no error";
      try {
        body(communicator);
      } catch (const Error& error) {
        message = error.what();
      }
      {
        const std::lock_guard lock(mutex);
        messages.push_back(message);
      }
      // The world ends with rank `missing`, when all have spoken.
      const Stopwatch stopwatch;
      while (stopwatch.elapsed_s() < 20 * options.timeout_s) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        const std::lock_guard lock(mutex);
        if (static_cast<int>(messages.size()) == ranks - 1) return;
      }
    });
  } catch (const std::runtime_error&) {
  }
  return messages;
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST_CASE("options that do not fit together") {
  const auto open_with = [](const Options& options) { return [options] { Communicator::open(options); }; };
  CHECK(contains(message_of(ErrorKind::input, open_with({.algorithm = "mpi", .wire = Wire::bf16})), "bf16"));
  CHECK(contains(message_of(ErrorKind::input, open_with({.algorithm = "ring", .wire = Wire::int8})),
                 "ring would round a sum more than"));
  CHECK(contains(message_of(ErrorKind::input, open_with({.segment_bytes = 63})), "segment_bytes: 63"));
  CHECK(contains(message_of(ErrorKind::input, open_with({.segment_bytes = (std::size_t{1} << 30) + 1})), "segment"));
  CHECK(contains(message_of(ErrorKind::input, open_with({.timeout_s = 0})), "timeout_s"));
}

TEST_CASE("a few numbers alone take few hops, whatever arrays take") {
  for (const char* const algorithm : {"ring", "direct", "hierarchical"}) {
    const auto messages =
        messages_without(2, 3, {.algorithm = algorithm, .timeout_s = 0.3}, [](Communicator& communicator) {
          std::vector<float> sums(8);
          communicator.plan_all_reduce({.values = {}, .tail = sums}).start().wait();
        });
    for (const std::string& message : messages) CHECK(contains(message, "halving_doubling all-reduce"));
  }
}

TEST_CASE("a rank that never comes: the others name it within the time-out") {
  for (const auto& [ranks, algorithm] : {std::pair{2, "ring"},
                                         {3, "ring"},
                                         {5, "ring"},
                                         {3, "direct"},
                                         {5, "direct"},
                                         {5, "halving_doubling"},
                                         {5, "hierarchical"}}) {
    const Options options{.algorithm = algorithm, .ranks_per_host = 2, .timeout_s = 0.3};
    for (int missing = 0; missing < ranks; ++missing) {
      const Stopwatch stopwatch;
      const std::vector<std::string> messages =
          messages_without(missing, ranks, options, [](Communicator& communicator) {
            std::vector<float> values(1000);
            communicator.plan_all_reduce({.values = values}).start().wait();
          });
      CHECK(stopwatch.elapsed_s() < 10);
      CHECK(static_cast<int>(messages.size()) == ranks - 1);
      for (const std::string& message : messages) {
        INFO(message);
        CHECK(contains(message, format("rank {} on", missing)));
        CHECK(contains(message, format("{} all-reduce of 1,000 floats, step ", algorithm)));
        CHECK(contains(message, "no progress for "));
      }
    }
  }
}

TEST_CASE("who is waited for among thousands: the nearest, the furthest and how many") {
  const Topology topology(0, 10000, std::vector<std::string>(10000, "ash"));
  const std::string text = topology.nothing_comes_from(topology.ranks_left(5000));
  CHECK(
      text ==
      "nothing comes from rank 9999 on ash, which may be waiting for any of 4999 ranks, the furthest rank 5000 on ash");
}

TEST_CASE("barrier, broadcast and gather without a rank fail in time too") {
  const Options options{.timeout_s = 0.2};
  const std::vector<std::function<void(Communicator&)>> calls{
      [](Communicator& communicator) { communicator.barrier(); },
      [](Communicator& communicator) { communicator.gather(1); },
      [](Communicator& communicator) {
        std::vector<std::byte> bytes(10);
        communicator.broadcast(bytes);
      },
  };
  for (const auto& call : calls) {
    const std::vector<std::string> messages = messages_without(0, 3, options, call);
    REQUIRE(messages.size() == 2);
    for (const std::string& message : messages) CHECK(contains(message, "no progress"));
  }
}

TEST_CASE("a rank that throws ends the others at once, with its own error on top") {
  const Stopwatch stopwatch;
  const std::string message = message_of(ErrorKind::input, [] {
    run_ranks_as_threads(4, {.timeout_s = 60}, [](Communicator& communicator) {
      std::vector<float> values(100000);
      for (int step = 0;; ++step) {
        Ticket ticket = communicator.plan_all_reduce({.values = values}).start();
        if (step == 3 && communicator.rank() == 2) throw Error(ErrorKind::input, "bad image");
        ticket.wait();
      }
    });
  });
  CHECK(message == "bad image");
  CHECK(stopwatch.elapsed_s() < 10);
}

TEST_CASE("abort ends the others' operations with its reason") {
  std::mutex mutex;
  std::vector<std::string> messages;
  std::atomic<int> arrived = 0;
  run_ranks_as_threads(3, {.timeout_s = 60}, [&](Communicator& communicator) {
    ++arrived;
    while (arrived < 3) std::this_thread::yield();
    if (communicator.rank() == 1) {
      communicator.abort("the disk is full", 1);
      return;
    }
    const std::string message = message_of(ErrorKind::failure, [&] { communicator.barrier(); });
    const std::lock_guard lock(mutex);
    messages.push_back(message);
  });
  REQUIRE(messages.size() == 2);
  for (const std::string& message : messages) CHECK(contains(message, "rank 1 on "));
  for (const std::string& message : messages) CHECK(contains(message, "the disk is full"));
}

TEST_CASE("after an error all later operations fail with it") {
  run_ranks_as_threads(1, {}, [&](Communicator& communicator) {
    communicator.abort("enough", 1);
    std::vector<float> values(3);
    Ticket ticket = communicator.plan_all_reduce({.values = values}).start();
    CHECK(contains(message_of(ErrorKind::failure, [&] { ticket.wait(); }), "enough"));
    CHECK(contains(message_of(ErrorKind::failure, [&] { communicator.barrier(); }), "enough"));
  });
}

TEST_CASE("ranks that ask for different lengths are told so") {
  for (const char* const algorithm : {"ring", "auto"}) {
    const std::string message = message_of(ErrorKind::failure, [&] {
      run_ranks_as_threads(2, {.algorithm = algorithm, .timeout_s = 5}, [](Communicator& communicator) {
        std::vector<float> values(communicator.rank() == 0 ? 1000 : 1001);
        communicator.plan_all_reduce({.values = values}).start().wait();
      });
    });
    CHECK(contains(message, algorithm == std::string("ring") ? "bytes where" : "floats where"));
  }
}

TEST_CASE("waiting twice is an error") {
  run_ranks_as_threads(1, {}, [](Communicator& communicator) {
    std::vector<float> values(10);
    Ticket ticket = communicator.plan_all_reduce({.values = values}).start();
    ticket.wait();
    CHECK(contains(message_of(ErrorKind::failure, [&] { ticket.wait(); }), "twice"));
  });
}

TEST_CASE("a ticket that is dropped or replaced blocks until its buffer is free") {
  run_ranks_as_threads(2, {.timeout_s = 30}, [](Communicator& communicator) {
    std::vector<float> first(50000, 1.0F);
    std::vector<float> second(50000, 1.0F);
    if (communicator.rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    {
      Ticket ticket = communicator.plan_all_reduce({.values = first, .factor = 1}).start();
      ticket = communicator.plan_all_reduce({.values = second, .factor = 1}).start();
      for (const float value : first) {
        if (value != 2.0F) throw std::runtime_error("replaced too early");
      }
    }
    for (const float value : second) {
      if (value != 2.0F) throw std::runtime_error("dropped too early");
    }
  });
}

TEST_CASE("an exception unwinds past a ticket and a communicator without a hang") {
  const Stopwatch stopwatch;
  CHECK_THROWS_WITH(
      [] {
        const auto communicator = Communicator::open({});
        std::vector<float> values(1000000);
        const Ticket ticket = communicator->plan_all_reduce({.values = values}).start();
        throw std::runtime_error("on the way out");
      }(),
      "on the way out");
  CHECK(stopwatch.elapsed_s() < 5);
}

}  // namespace
}  // namespace dcs3gd::comm
