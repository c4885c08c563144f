#include "core/aligned_buffer.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

#include "core/error.h"
#include "core/format.h"

namespace dcs3gd {
namespace {

constexpr std::size_t kCacheLine = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::size_t round_up(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

}  // namespace

void* allocate_aligned(std::size_t bytes) {
  const std::size_t alignment = bytes >= kHugePage ? kHugePage : kCacheLine;
  const std::size_t rounded = round_up(bytes == 0 ? 1 : bytes, kCacheLine);
  void* memory = std::aligned_alloc(alignment, round_up(rounded, alignment));
  if (memory == nullptr) {
    throw Error(ErrorKind::failure,
                format("out of memory: {} bytes could not be allocated; use a smaller batch or fewer workers", bytes));
  }
  // Advice only: without huge pages the run is slower, not wrong.
  if (alignment == kHugePage) madvise(memory, round_up(rounded, alignment), MADV_HUGEPAGE);
  std::memset(memory, 0, rounded);
  return memory;
}

void free_aligned(void* memory) noexcept { std::free(memory); }

}  // namespace dcs3gd
