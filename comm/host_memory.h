#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

namespace dcs3gd::comm {

class SharedPool;

/// Memory that the ranks of a host read in place: each rank has a pool of its own, which the others map and cannot
/// write to. Pools have no name in any file system, so that nothing stays behind whatever ends a rank, and are not
/// limited by /dev/shm. Thread-safe, but for connect().
class HostMemory {
 public:
  /// A pool for one of so many ranks: address space only, until something is allocated.
  explicit HostMemory(int ranks_here);

  /// What the others need to find this rank's pool, or why there is none.
  std::string address() const;
  /// Maps the pools of the ranks of this host, by their addresses; the own one is among them. That they are on one host
  /// is proved by finding in each what its owner has written there. Returns why it cannot be; "" if all are there.
  std::string connect(const std::vector<std::string>& addresses);

  /// Zeroed memory in this rank's pool; null where there is no room. It goes back with the last pointer to it.
  std::shared_ptr<std::byte> allocate(std::size_t bytes);
  /// Where the others find it.
  static constexpr std::size_t kNowhere = ~std::size_t{0};
  std::size_t offset_of(const void* memory) const;
  const std::byte* at(std::size_t rank, std::size_t offset) const { return pools_[rank].get() + offset; }

  /// Memory that others may still be reading is kept until all ranks have retired what has this number.
  void retire(std::uint64_t number, std::shared_ptr<std::byte> memory);
  /// The numbers that this rank has retired, as a list for the others.
  std::vector<std::uint64_t> retired() const;
  /// Everyone's lists: lets go of what stands in all of them.
  void release(std::span<const std::vector<std::uint64_t>> retired);

 private:
  struct Retired {
    std::uint64_t number;
    std::shared_ptr<std::byte> memory;
  };

  std::string why_not_;              ///< there is no pool
  std::shared_ptr<SharedPool> own_;  ///< kept by what was allocated from it
  std::vector<std::shared_ptr<const std::byte>> pools_;
  mutable std::mutex mutex_;
  std::vector<Retired> retired_;  ///< guarded by mutex_
};

}  // namespace dcs3gd::comm
