#include "core/aligned_buffer.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include <sys/mman.h>

#include "core/error.h"
#include "core/format.h"

namespace dcs3gd {
namespace {

constexpr std::size_t kCacheLine = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::size_t round_up(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

/// Memory that is not touched yet, or nullptr.
void* reserve(std::size_t bytes, std::size_t alignment) {
  if (bytes > PTRDIFF_MAX) return nullptr;  // no object is larger, and rounding up could wrap
  return std::aligned_alloc(alignment, round_up(std::max<std::size_t>(bytes, 1), alignment));
}

/// By the caller's OpenMP team: the system takes as long to hand out a page as a core takes to fill it several times.
/// On machines of several sockets pages lie near the thread that touches them first.
void touch_and_zero(void* memory, std::size_t bytes) {
  const std::size_t pages = round_up(bytes, kHugePage) / kHugePage;
#pragma omp parallel for schedule(static) if (pages > 1)
  for (std::size_t page = 0; page < pages; ++page) {
    const std::size_t first = page * kHugePage;
    std::memset(static_cast<std::byte*>(memory) + first, 0, std::min(kHugePage, bytes - first));
  }
}

}  // namespace

void* allocate_aligned(std::size_t bytes) {
  const std::size_t alignment = bytes >= kHugePage ? kHugePage : kCacheLine;
  void* memory = reserve(bytes, alignment);
  if (memory == nullptr) {
    throw Error(ErrorKind::failure,
                format("out of memory: {} bytes could not be allocated; use a smaller batch or fewer workers", bytes));
  }
  // Advice only: without huge pages the run is slower, not wrong.
  if (alignment == kHugePage) madvise(memory, round_up(bytes, alignment), MADV_HUGEPAGE);
  touch_and_zero(memory, bytes);
  return memory;
}

void free_aligned(void* memory) noexcept { std::free(memory); }

}  // namespace dcs3gd
