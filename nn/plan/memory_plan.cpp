#include "nn/plan/memory_plan.h"

#include <algorithm>
#include <numeric>

namespace dcs3gd::nn {
namespace {

constexpr std::size_t kAlignment = 64;

bool overlap(const Lifetime& a, const Lifetime& b) { return a.first <= b.last && b.first <= a.last; }

}  // namespace

MemoryPlan plan_memory(const std::vector<Lifetime>& lifetimes) {
  std::vector<std::size_t> order(lifetimes.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order,
                           [&](std::size_t a, std::size_t b) { return lifetimes[a].bytes > lifetimes[b].bytes; });

  struct Placed {
    std::size_t begin, end, index;
  };
  std::vector<Placed> placed;  // by begin
  MemoryPlan plan{.offsets = std::vector<std::size_t>(lifetimes.size())};
  for (const std::size_t index : order) {
    const std::size_t bytes = (lifetimes[index].bytes + kAlignment - 1) / kAlignment * kAlignment;
    std::size_t offset = 0;
    for (const Placed& other : placed) {
      if (!overlap(lifetimes[index], lifetimes[other.index])) continue;
      if (offset + bytes <= other.begin) break;
      offset = std::max(offset, other.end);
    }
    const Placed block{offset, offset + bytes, index};
    placed.insert(std::ranges::upper_bound(placed, block.begin, {}, &Placed::begin), block);
    plan.offsets[index] = offset;
    plan.total_bytes = std::max(plan.total_bytes, block.end);
  }
  return plan;
}

}  // namespace dcs3gd::nn
