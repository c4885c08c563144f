#include "tests/comm/all_reduce_checks.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "comm/wire_format.h"
#include "core/format.h"

namespace dcs3gd::comm {
namespace {

constexpr std::size_t kStride = 9;  // with 16 ranks the largest sum is 248: bf16 has all whole numbers up to 256

float summand(int rank, std::size_t index) {
  return static_cast<float>(static_cast<std::size_t>(rank) + index % kStride);
}

float sum_over_ranks(int size, std::size_t index) {
  const auto ranks = static_cast<std::size_t>(size);
  return static_cast<float>(ranks * (index % kStride) + ranks * (ranks - 1) / 2);
}

float tail_summand(int rank, std::size_t index) {
  return static_cast<float>(10007 * (index + 1) + static_cast<std::size_t>(rank));  // far more digits than bf16 has
}

float tail_sum(int size, std::size_t index) {
  const auto ranks = static_cast<std::size_t>(size);
  return static_cast<float>(ranks * 10007 * (index + 1) + ranks * (ranks - 1) / 2);
}

float through_bf16(float value) {
  std::uint16_t wire = 0;
  to_bf16(&value, &wire, 1);
  from_bf16(&wire, &value, 1);
  return value;
}

}  // namespace

std::string check_all_reduce(Communicator& communicator, const AllReduceCase& the_case) {
  const int rank = communicator.rank();
  const int size = communicator.size();
  constexpr std::size_t kGuard = 3;
  constexpr float kGuardValue = -77;
  const std::shared_ptr<float> memory = communicator.allocate(the_case.floats + kGuard);
  const std::span values(memory.get(), the_case.floats + kGuard);
  std::ranges::fill(values, kGuardValue);
  std::vector<float> tail(the_case.tail);
  for (std::size_t i = 0; i < the_case.floats; ++i) values[i] = summand(rank, i);
  for (std::size_t i = 0; i < the_case.tail; ++i) tail[i] = tail_summand(rank, i);

  AllReducePlan plan = communicator.plan_all_reduce({.values = values.first(the_case.floats),
                                                     .tail = tail,
                                                     .factor = the_case.factor,
                                                     .leaves_parts = the_case.leaves_parts,
                                                     .wire = the_case.wire});
  plan.start().wait();
  std::vector<float> averages;
  for (const ResultPart& part : plan.parts()) {
    if (part.first != averages.size()) return format("a part begins at {}, not {}", part.first, averages.size());
    averages.insert(averages.end(), part.values.begin(), part.values.end());
  }
  if (averages.size() != the_case.floats) return format("the parts hold {} floats", averages.size());

  const std::string label = format("{} of {} ranks, {} floats, a tail of {}, {}", rank, size, the_case.floats,
                                   the_case.tail, the_case.wire == Wire::bf16 ? "bf16" : "fp32");
  const bool rounds = the_case.wire == Wire::bf16 && size > 1 && plan.algorithm() != kSharedMemory;
  for (std::size_t i = 0; i < the_case.floats; ++i) {
    const float scaled = the_case.factor * sum_over_ranks(size, i);
    const float expected = rounds ? through_bf16(scaled) : scaled;
    if (averages[i] != expected) return format("{}: element {} is {}, not {}", label, i, averages[i], expected);
    if (!the_case.leaves_parts && values[i] != expected) return format("{}: element {} is not in its place", label, i);
  }
  for (std::size_t i = 0; i < the_case.tail; ++i) {
    if (tail[i] != tail_sum(size, i)) {
      return format("{}: tail element {} is {}, not {}", label, i, tail[i], tail_sum(size, i));
    }
  }
  if (std::ranges::any_of(values.last(kGuard), [](float value) { return value != kGuardValue; })) {
    return format("{}: wrote after the end", label);
  }
  return "";
}

std::string check_plans_in_flight(Communicator& communicator) {
  constexpr int kRounds = 20;
  const int size = communicator.size();
  std::vector<std::shared_ptr<float>> memory;
  std::vector<std::span<float>> arrays;
  std::vector<AllReducePlan> plans;
  for (const std::size_t floats : {std::size_t{1000003}, std::size_t{10}, std::size_t{11}, std::size_t{12}}) {
    memory.push_back(communicator.allocate(floats));
    arrays.emplace_back(memory.back().get(), floats);
    plans.push_back(communicator.plan_all_reduce({.values = arrays.back(), .factor = 1}));
  }
  int overtakes = 0;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<Ticket> tickets;
    for (std::size_t i = 0; i < plans.size(); ++i) {
      std::ranges::fill(arrays[i], static_cast<float>(communicator.rank() + round + static_cast<int>(i)));
      tickets.push_back(plans[i].start());
    }
    std::vector<AllReduceResult> results(plans.size());
    for (std::size_t i = 0; i < plans.size(); ++i) {
      const std::size_t next = (i + static_cast<std::size_t>(communicator.rank())) % plans.size();
      results[next] = tickets[next].wait();
      const auto expected = static_cast<float>(size * (round + static_cast<int>(next)) + size * (size - 1) / 2);
      if (std::ranges::any_of(arrays[next], [&](float value) { return value != expected; })) {
        return format("round {}, plan {}: not {}", round, next, expected);
      }
    }
    const auto end_ms = [](const AllReduceResult& result) { return result.start_ms + result.all_reduce_ms; };
    if (results.back().start_ms < end_ms(results.front()) && end_ms(results.back()) < end_ms(results.front())) {
      ++overtakes;
    }
  }
  return overtakes > 0 ? "" : "no small all-reduce has overtaken the large one";
}

std::string check_same_bits(Communicator& communicator, const void* memory, std::size_t bytes) {
  std::uint64_t hash = 0xCBF29CE484222325U;  // FNV-1a
  const auto* at = static_cast<const unsigned char*>(memory);
  for (std::size_t i = 0; i < bytes; ++i) hash = (hash ^ at[i]) * 0x100000001B3U;
  const std::vector<std::string> hashes = communicator.all_gather(format("{:016x}", hash));
  for (std::size_t rank = 1; rank < hashes.size(); ++rank) {
    if (hashes[rank] != hashes[0]) {
      return format("rank {} has {}, rank 0 has {}", rank, hashes[rank], hashes[0]);
    }
  }
  return "";
}

}  // namespace dcs3gd::comm
