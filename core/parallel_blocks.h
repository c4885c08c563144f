#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

namespace dcs3gd {

/// Elements per block of a parallel loop over a flat array: large enough to amortise the loop, small enough for L2.
/// Blocks, not threads, define the order of sums, so results do not depend on the number of threads.
constexpr std::size_t kBlockElements = 16384;

constexpr std::size_t block_count(std::size_t elements) { return (elements + kBlockElements - 1) / kBlockElements; }

/// Calls body(first, count) for each block of [0, elements), in parallel. `body` must not throw.
template <typename Body>
void for_each_block(std::size_t elements, Body&& body) {
  const std::size_t blocks = block_count(elements);
#pragma omp parallel for schedule(static) if (blocks > 1)
  for (std::size_t block = 0; block < blocks; ++block) {
    const std::size_t first = block * kBlockElements;
    body(first, std::min(kBlockElements, elements - first));
  }
}

/// The sum of block_sum(first, count) over the blocks of [0, elements), which must not throw. Blocks are added in
/// groups of neighbours and then group by group: an order that depends on `elements` alone. Allocates nothing.
template <typename Sum, typename BlockSum>
Sum sum_over_blocks(std::size_t elements, BlockSum&& block_sum) {
  constexpr std::size_t kGroups = 256;  // enough for as many threads
  const std::size_t blocks = block_count(elements);
  const std::size_t groups = std::min(blocks, kGroups);
  std::array<Sum, kGroups> sums{};
#pragma omp parallel for schedule(static) if (groups > 1)
  for (std::size_t group = 0; group < groups; ++group) {
    Sum sum{};
    for (std::size_t block = group * blocks / groups; block < (group + 1) * blocks / groups; ++block) {
      const std::size_t first = block * kBlockElements;
      sum += block_sum(first, std::min(kBlockElements, elements - first));
    }
    sums[group] = sum;
  }
  Sum total{};
  for (std::size_t group = 0; group < groups; ++group) total += sums[group];
  return total;
}

}  // namespace dcs3gd
