#pragma once

#include <algorithm>
#include <cstddef>

namespace dcs3gd {

/// Elements per block of a parallel loop over a flat array: large enough to amortise the loop, small enough for L2.
/// Blocks, not threads, define the order of sums, so results do not depend on the number of threads.
constexpr std::size_t kBlockElements = 16384;

constexpr std::size_t block_count(std::size_t elements) { return (elements + kBlockElements - 1) / kBlockElements; }

/// Calls body(block, first, count) for each block of [0, elements), in parallel. `body` must not throw.
template <typename Body>
void for_each_block(std::size_t elements, Body&& body) {
  const std::size_t blocks = block_count(elements);
#pragma omp parallel for schedule(static) if (blocks > 1)
  for (std::size_t block = 0; block < blocks; ++block) {
    const std::size_t first = block * kBlockElements;
    body(block, first, std::min(kBlockElements, elements - first));
  }
}

}  // namespace dcs3gd
