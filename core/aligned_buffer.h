#pragma once

#include <cstddef>
#include <limits>
#include <memory>
#include <span>
#include <type_traits>

namespace dcs3gd {

/// Allocates `bytes` of zeroed memory, 64-byte aligned; blocks of 2 MiB and more are aligned to 2 MiB and marked for
/// transparent huge pages. Every page is touched, by the caller's OpenMP team, so a step never pays for a page fault.
/// Throws Error{failure} that names the size when memory is short or the size is beyond any memory.
void* allocate_aligned(std::size_t bytes);
void free_aligned(void* memory) noexcept;

/// A fixed-size, zero-initialised array of plain numbers in memory from allocate_aligned. Movable, not copyable.
template <typename T>
class AlignedBuffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t count)
      : data_(static_cast<T*>(allocate_aligned(bytes_of(count)))), count_(count) {}

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  std::size_t size() const { return count_; }
  std::size_t size_bytes() const { return count_ * sizeof(T); }
  T& operator[](std::size_t index) { return data_.get()[index]; }
  const T& operator[](std::size_t index) const { return data_.get()[index]; }
  T* begin() { return data(); }
  T* end() { return data() + count_; }
  const T* begin() const { return data(); }
  const T* end() const { return data() + count_; }
  std::span<T> span() { return {data(), count_}; }
  std::span<const T> span() const { return {data(), count_}; }

 private:
  /// Saturates: a count whose bytes do not fit must be refused, not wrap to a small block.
  static constexpr std::size_t bytes_of(std::size_t count) {
    constexpr std::size_t kMaxBytes = std::numeric_limits<std::size_t>::max();
    return count > kMaxBytes / sizeof(T) ? kMaxBytes : count * sizeof(T);
  }
  struct Free {
    void operator()(T* memory) const noexcept { free_aligned(memory); }
  };
  std::unique_ptr<T, Free> data_;
  std::size_t count_ = 0;
};

}  // namespace dcs3gd
