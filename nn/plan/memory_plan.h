#pragma once

#include <cstddef>
#include <vector>

namespace dcs3gd::nn {

/// A block of memory that is needed from one operation to another, both included.
struct Lifetime {
  std::size_t bytes = 0;
  std::size_t first = 0;
  std::size_t last = 0;
};

/// Where each block lies in one piece of memory. Blocks whose lifetimes overlap never share a byte.
struct MemoryPlan {
  std::vector<std::size_t> offsets;  ///< one per lifetime, multiples of 64 bytes
  std::size_t total_bytes = 0;
};

/// Places the largest blocks first, each at the lowest offset that no block alive at the same time covers ("greedy by
/// size", Pisarchyk & Lee, arXiv 2001.03288).
MemoryPlan plan_memory(const std::vector<Lifetime>& lifetimes);

}  // namespace dcs3gd::nn
