#include <algorithm>
#include <cmath>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "comm/communicator.h"
#include "comm/schedule/algorithms.h"
#include "comm/schedule/chunks.h"
#include "comm/thread_world.h"
#include "core/error.h"
#include "core/format.h"
#include "core/random_stream.h"
#include "tests/comm/all_reduce_checks.h"
#include "tests/support/file_helpers.h"

namespace dcs3gd::comm {
namespace {

constexpr double kTimeout_s = 30;
constexpr std::size_t kTinySegment = 64;

Options options(std::optional<std::size_t> segment_bytes = {}, const std::string& algorithm = "ring") {
  return {.algorithm = algorithm, .segment_bytes = segment_bytes, .timeout_s = kTimeout_s};
}

/// What went wrong at any rank, one line each.
class Findings {
 public:
  void add(const std::string& finding) {
    if (finding.empty()) return;
    const std::lock_guard lock(mutex_);
    text_ += finding + "\n";
  }
  const std::string& text() const { return text_; }

 private:
  std::mutex mutex_;
  std::string text_;
};

using Lengths = std::vector<std::size_t>;

/// Around one element and one cache line a rank: chunks that are empty, whole, or differ by a line; the last of several
/// lines.
Lengths few_elements(int ranks) {
  const auto n = static_cast<std::size_t>(ranks);
  return {0, 1, n - 1, n, n + 1, n * kLineFloats - 1, n * kLineFloats, n * kLineFloats + 1, 3 * n * kLineFloats + 5};
}

Lengths few_and_many_elements(int ranks) {
  Lengths lengths = few_elements(ranks);
  lengths.insert(lengths.end(), {1000, 100003});
  return lengths;
}

/// Lengths that are summed in worlds of these sizes, with these segments and every algorithm and wire. Worlds of many
/// ranks take long, so there are few of them and with few elements.
struct MatrixRows {
  std::vector<int> rank_counts;
  Lengths (*lengths)(int ranks);
  std::vector<std::optional<std::size_t>> segment_bytes;
};

const MatrixRows kMatrix[] = {
    {{1, 2, 3, 4, 5, 8}, few_and_many_elements, {std::nullopt, kTinySegment}},
    {{6, 7, 11, 16}, few_elements, {kTinySegment}},
};
constexpr const char* kScheduled[] = {"ring", "direct", "halving_doubling", "hierarchical"};

std::vector<Wire> wires_of(std::string_view algorithm) {
  if (is_native(algorithm)) return {Wire::fp32};
  return {Wire::fp32, Wire::bf16};
}

/// On hosts of three ranks each.
Options on_hosts(std::optional<std::size_t> segment_bytes, std::string_view algorithm) {
  Options settings = options(segment_bytes, std::string(algorithm));
  settings.ranks_per_host = 3;
  return settings;
}

/// Every length and wire in one world.
void check_matrix(int ranks, const Lengths& lengths, const Options& settings) {
  Findings findings;
  run_ranks_as_threads(ranks, settings, [&](Communicator& communicator) {
    for (const std::size_t floats : lengths) {
      for (const Wire wire : wires_of(settings.algorithm)) {
        const float factor = 1.0F / static_cast<float>(ranks);
        findings.add(check_all_reduce(communicator, {.floats = floats, .tail = 3, .wire = wire, .factor = factor}));
        findings.add(check_all_reduce(communicator, {.floats = floats, .tail = 0, .wire = wire, .factor = 1}));
      }
    }
  });
  INFO(settings.algorithm, ", ", ranks, " ranks");
  CHECK(findings.text() == "");
}

/// Numbers with full mantissas, different on every rank.
std::vector<float> random_values(int rank, std::size_t count) {
  RandomStream random(7, RandomPurpose::test, static_cast<std::uint64_t>(rank));
  std::vector<float> values(count);
  for (float& value : values) value = random.normal();
  return values;
}

TEST_CASE("every element of every length with every algorithm, one segment per chunk and many tiny ones") {
  for (const AlgorithmInfo& algorithm : algorithms()) {
    for (const MatrixRows& rows : kMatrix) {
      for (const int ranks : rows.rank_counts) {
        for (const std::optional<std::size_t> segment_bytes : rows.segment_bytes) {
          check_matrix(ranks, rows.lengths(ranks), on_hosts(segment_bytes, algorithm.name));
        }
      }
    }
  }
}

TEST_CASE("auto: each array its own algorithm, and every element is right") {
  run_ranks_as_threads(4, on_hosts({}, kAutomatic), [](Communicator& communicator) {
    if (communicator.algorithm_for(1000) != "halving_doubling") throw std::runtime_error("few floats");
    if (communicator.algorithm_for(100003) != "hierarchical") throw std::runtime_error("many floats");
  });
  check_matrix(4, {0, 1, 1000, 100003}, on_hosts({}, kAutomatic));
}

TEST_CASE("worlds of 64 and 67 ranks, every algorithm and wire") {
  for (const char* algorithm : kScheduled) {
    for (const int ranks : {64, 67}) {
      Findings findings;
      Options settings = on_hosts({}, algorithm);
      settings.ranks_per_host = 10;
      run_ranks_as_threads(ranks, settings, [&](Communicator& communicator) {
        findings.add(check_all_reduce(communicator, {.floats = 5, .tail = 3, .factor = 0.5F}));
        findings.add(check_all_reduce(communicator, {.floats = 3000, .tail = 0, .factor = 1}));
        std::vector<float> values = random_values(communicator.rank(), 3000);
        communicator.plan_all_reduce({.values = values, .wire = Wire::bf16}).start().wait();
        findings.add(check_same_bits(communicator, values.data(), values.size() * sizeof(float)));
      });
      INFO(algorithm, ", ", ranks, " ranks");
      CHECK(findings.text() == "");
    }
  }
}

TEST_CASE("a longer tail than a segment holds") {
  Findings findings;
  run_ranks_as_threads(3, options(kTinySegment), [&](Communicator& communicator) {
    findings.add(check_all_reduce(communicator, {.floats = 5, .tail = 100, .wire = Wire::bf16, .factor = 0.5F}));
  });
  CHECK(findings.text() == "");
}

TEST_CASE("the default factor averages over the ranks, the default wire is the options'") {
  for (const Wire wire : {Wire::fp32, Wire::bf16}) {
    Options settings = options();
    settings.wire = wire;
    run_ranks_as_threads(2, settings, [&](Communicator& communicator) {
      // 257/2 does not fit into bf16's 8 bits: 128.5 becomes 128 (ties to even).
      std::vector<float> values{communicator.rank() == 0 ? 256.0F : 1.0F};
      communicator.plan_all_reduce({.values = values}).start().wait();
      if (values[0] != (wire == Wire::fp32 ? 128.5F : 128.0F)) throw std::runtime_error(format("{}", values[0]));
    });
  }
}

TEST_CASE("one rank: nothing is rounded on the bf16 wire, for nothing travels") {
  Options settings = options();
  settings.wire = Wire::bf16;
  run_ranks_as_threads(1, settings, [&](Communicator& communicator) {
    std::vector<float> values{1.00001F};
    communicator.plan_all_reduce({.values = values}).start().wait();
    CHECK(values[0] == 1.00001F);
  });
}

/// The sum of random values after comparing it over the ranks.
std::vector<float> same_bits(int ranks, const Options& settings) {
  constexpr std::size_t kFloats = 20011;
  Findings findings;
  std::vector<float> result;
  run_ranks_as_threads(ranks, settings, [&](Communicator& communicator) {
    std::vector<float> values = random_values(communicator.rank(), kFloats);
    communicator.plan_all_reduce({.values = values}).start().wait();
    findings.add(check_same_bits(communicator, values.data(), kFloats * sizeof(float)));
    if (communicator.rank() == 0) result = values;
  });
  CHECK(findings.text() == "");
  return result;
}

TEST_CASE("the result has the same bits on all ranks and for every segment size") {
  for (const char* algorithm : kScheduled) {
    for (const Wire wire : {Wire::fp32, Wire::bf16}) {
      for (const int ranks : {2, 3, 5, 16}) {
        Options settings = on_hosts({}, algorithm);
        settings.wire = wire;
        const std::vector<float> first = same_bits(ranks, settings);
        for (const std::size_t segment_bytes : {64, 1000}) {
          settings.segment_bytes = segment_bytes;
          CHECK(same_bits(ranks, settings) == first);
        }
      }
    }
  }
}

TEST_CASE("a chunk is summed in the order of its schedule and finished by its owner") {
  constexpr int kRanks = 4;
  constexpr std::size_t kFloats = 4 * kLineFloats;
  for (const std::string algorithm : {"ring", "direct"}) {
    run_ranks_as_threads(kRanks, options({}, algorithm), [&](Communicator& communicator) {
      std::vector<float> values = random_values(communicator.rank(), kFloats);
      communicator.plan_all_reduce({.values = values, .factor = 0.1F}).start().wait();
      for (std::size_t i = 0; i < kFloats; ++i) {
        const int owner = static_cast<int>(i / kLineFloats);
        float sum = 0;
        for (int visit = 1; visit <= kRanks; ++visit) {
          const int place = algorithm == "ring" ? visit : kRanks + 1 - visit;
          const float summand = random_values((owner + place) % kRanks, kFloats)[i];
          sum = visit == 1 ? summand : sum + summand;
        }
        if (values[i] != 0.1F * sum) throw std::runtime_error(format("element {}", i));
      }
    });
  }
}

TEST_CASE("bf16 wire: the error stays within the roundings of each schedule") {
  constexpr std::size_t kFloats = 5000;
  struct Case {
    int ranks;
    const char* algorithm;
    int roundings;
  };
  for (const auto& [ranks, algorithm, roundings] : {Case{2, "ring", 2},
                                                    {4, "ring", 4},
                                                    {16, "ring", 16},
                                                    {8, "direct", 2},
                                                    {16, "direct", 2},
                                                    {16, "halving_doubling", 5},
                                                    {11, "halving_doubling", 5},
                                                    {16, "hierarchical", 2}}) {
    run_ranks_as_threads(
        ranks, on_hosts({}, algorithm), [&, ranks = ranks, roundings = roundings](Communicator& communicator) {
          std::vector<double> sum(kFloats);
          std::vector<double> magnitude(kFloats);
          for (int rank = 0; rank < ranks; ++rank) {
            const std::vector<float> summands = random_values(rank, kFloats);
            for (std::size_t i = 0; i < kFloats; ++i) {
              sum[i] += static_cast<double>(summands[i]);
              magnitude[i] += std::abs(static_cast<double>(summands[i]));
            }
          }
          std::vector<float> values = random_values(communicator.rank(), kFloats);
          communicator.plan_all_reduce({.values = values, .factor = 1, .wire = Wire::bf16}).start().wait();
          constexpr double kHalfUnit = 1.0 / 256;  // of 8 significant bits, relative to the value
          for (std::size_t i = 0; i < kFloats; ++i) {
            const double error = std::abs(static_cast<double>(values[i]) - sum[i]);
            if (error > roundings * kHalfUnit * magnitude[i])
              throw std::runtime_error(format("element {}: {}", i, error));
          }
        });
  }
}

TEST_CASE("NaN and infinity of one rank reach all ranks on both wires") {
  for (const Wire wire : {Wire::fp32, Wire::bf16}) {
    run_ranks_as_threads(3, options(), [&](Communicator& communicator) {
      std::vector<float> values(100, 1.0F);
      if (communicator.rank() == 1) {
        values[7] = std::nanf("");
        values[60] = INFINITY;
      }
      communicator.plan_all_reduce({.values = values, .wire = wire}).start().wait();
      if (!std::isnan(values[7]) || !std::isinf(values[60]) || values[8] != 1.0F) throw std::runtime_error("lost");
    });
  }
}

TEST_CASE("many all-reduces in flight, of random lengths, on mixed wires, in order") {
  constexpr int kRounds = 60;
  constexpr std::size_t kInFlight = 5;
  for (const int ranks : {2, 3, 4}) {
    Findings findings;
    run_ranks_as_threads(ranks, options(256), [&](Communicator& communicator) {
      RandomStream random(11, RandomPurpose::test);  // the same on all ranks
      for (int round = 0; round < kRounds; ++round) {
        std::vector<std::vector<float>> buffers;
        std::vector<Ticket> tickets;
        std::vector<float> expected;
        for (std::size_t i = 0; i < kInFlight; ++i) {
          buffers.emplace_back(random.below(700), static_cast<float>(communicator.rank() + round));
          expected.push_back(static_cast<float>(ranks * round + ranks * (ranks - 1) / 2));
        }
        for (std::vector<float>& buffer : buffers) {
          const Wire wire = random.below(2) == 0 ? Wire::fp32 : Wire::bf16;
          tickets.push_back(communicator.plan_all_reduce({.values = buffer, .factor = 1, .wire = wire}).start());
        }
        for (std::size_t i = 0; i < kInFlight; ++i) {
          tickets[i].wait();
          for (const float value : buffers[i]) {
            if (value != expected[i]) findings.add(format("round {}: {} instead of {}", round, value, expected[i]));
          }
        }
      }
    });
    CHECK(findings.text() == "");
  }
}

TEST_CASE("a plan is carried out again and again") {
  for (const AlgorithmInfo& algorithm : algorithms()) {
    for (const int ranks : {1, 2, 3, 4}) {
      run_ranks_as_threads(ranks, on_hosts(kTinySegment, algorithm.name), [&](Communicator& communicator) {
        std::vector<float> values(100);
        std::vector<float> tail(3);
        AllReducePlan plan = communicator.plan_all_reduce({.values = values, .tail = tail, .factor = 2});
        for (int round = 0; round < 20; ++round) {
          std::ranges::fill(values, static_cast<float>(communicator.rank() + round));
          std::ranges::fill(tail, 1.0F);
          plan.start().wait();
          const auto expected = static_cast<float>(2 * ranks * round + ranks * (ranks - 1));
          if (values != std::vector(100, expected)) throw std::runtime_error(format("round {}", round));
          if (tail != std::vector(3, static_cast<float>(ranks))) throw std::runtime_error("tail");
        }
      });
    }
  }
}

TEST_CASE("a plan owns its staging: eight segments at most, four without rounding, nothing alone") {
  const auto staging_bytes = [](int ranks, std::size_t floats, Wire wire) {
    std::size_t bytes = 0;
    run_ranks_as_threads(ranks, options(std::size_t{1} << 10), [&](Communicator& communicator) {
      std::vector<float> values(floats);
      std::vector<float> tail(3);
      const AllReducePlan plan = communicator.plan_all_reduce({.values = values, .tail = tail, .wire = wire});
      if (communicator.rank() == 0) bytes = plan.staging_bytes();
    });
    return bytes;
  };
  CHECK(staging_bytes(2, 100000, Wire::fp32) == 4 << 10);
  CHECK(staging_bytes(2, 100000, Wire::bf16) == 8 << 10);
  CHECK(staging_bytes(2, 64, Wire::fp32) == 4 * 32 * sizeof(float));
  CHECK(staging_bytes(2, 0, Wire::fp32) == 4 * 64);
  CHECK(staging_bytes(1, 100000, Wire::bf16) == 0);
}

TEST_CASE("a large plan and small ones in flight together: each element is right, and a small one overtakes") {
  for (const int ranks : {2, 3, 4}) {
    Findings findings;
    run_ranks_as_threads(ranks, options(std::size_t{1} << 12),
                         [&](Communicator& communicator) { findings.add(check_plans_in_flight(communicator)); });
    CHECK(findings.text() == "");
  }
}

TEST_CASE("a plan that is in flight is not started again") {
  for (const int ranks : {1, 2}) {
    run_ranks_as_threads(ranks, options(), [](Communicator& communicator) {
      std::vector<float> values(1000);
      AllReducePlan plan = communicator.plan_all_reduce({.values = values});
      Ticket ticket = plan.start();
      CHECK(test::contains(test::error_of([&] { plan.start(); }).what(), "started again before the ticket"));
      ticket.wait();
      plan.start().wait();
    });
  }
}

TEST_CASE("a plan may go before its ticket") {
  run_ranks_as_threads(2, options(kTinySegment), [](Communicator& communicator) {
    std::vector<float> values(20000, 1.0F);
    Ticket ticket = communicator.plan_all_reduce({.values = values, .factor = 1}).start();
    ticket.wait();
    if (values != std::vector(20000, 2.0F)) throw std::runtime_error("sum");
  });
}

TEST_CASE("a ticket tells how long the operation took") {
  run_ranks_as_threads(2, options(), [&](Communicator& communicator) {
    std::vector<float> values(1000);
    Ticket ticket = communicator.plan_all_reduce({.values = values}).start();
    const AllReduceResult result = ticket.wait();
    if (!(result.all_reduce_ms > 0 && result.all_reduce_ms < 1e3 * kTimeout_s)) throw std::runtime_error("duration");
  });
}

}  // namespace
}  // namespace dcs3gd::comm
