#include "comm/host_memory.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <map>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/format.h"

namespace dcs3gd::comm {
namespace {

constexpr char kIsAddress = '\0';  ///< begins no reason
constexpr std::size_t kPage = 4096;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

constexpr std::size_t round_up(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

std::string system_says(const char* call) { return format("{}: {}", call, std::strerror(errno)); }

class File {
 public:
  explicit File(int descriptor = -1) : descriptor_(descriptor) {}
  File(File&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  File& operator=(File&&) = delete;
  ~File() {
    if (is_open()) close(descriptor_);
  }

  bool is_open() const { return descriptor_ >= 0; }
  int descriptor() const { return descriptor_; }

 private:
  int descriptor_;
};

/// A file in the address space, from an address on that huge pages can begin at; null if the system refuses.
std::shared_ptr<std::byte> map(const File& file, std::size_t bytes, int protection) {
  const std::size_t reserved = bytes + kHugePage;
  void* const place = mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (place == MAP_FAILED) return nullptr;
  void* aligned = place;
  std::size_t room = reserved;
  std::align(kHugePage, bytes, aligned, room);
  void* const memory = mmap(aligned, bytes, protection, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, file.descriptor(), 0);
  if (memory == MAP_FAILED) {
    munmap(place, reserved);
    return nullptr;
  }
  madvise(memory, bytes, MADV_HUGEPAGE);  // advice only
  madvise(memory, bytes, MADV_DONTDUMP);  // a dump would bring every page into being, those of living ranks too
  return {static_cast<std::byte*>(memory), [place, reserved](std::byte*) { munmap(place, reserved); }};
}

/// All ranks of a host together may have twice its memory, and each maps it all: no more than half of its address
/// space. Beyond its limit for files a process would be killed.
std::size_t pool_bytes(int ranks_here) {
  const auto pages = static_cast<std::size_t>(std::max(sysconf(_SC_PHYS_PAGES), 0L));
  const auto page = static_cast<std::size_t>(std::max(sysconf(_SC_PAGESIZE), 0L));
  rlimit files{};
  rlimit addresses{};
  getrlimit(RLIMIT_FSIZE, &files);
  getrlimit(RLIMIT_AS, &addresses);
  const std::size_t of_all = std::min<std::size_t>(2 * pages * page, addresses.rlim_cur / 2);
  return std::min<std::size_t>(of_all / static_cast<std::size_t>(ranks_here), files.rlim_cur) / kHugePage * kHugePage;
}

}  // namespace

/// One rank's pool: a file without a name, mapped as a whole, of which the system gives memory only to what is
/// allocated.
class SharedPool : public std::enable_shared_from_this<SharedPool> {
 public:
  /// What the other ranks look for.
  struct Address {
    std::int64_t process = 0;
    std::int64_t descriptor = 0;
    std::array<std::uint64_t, 2> nonce{};
    const SharedPool* pool = nullptr;  ///< in that process
  };

  SharedPool(File file, std::shared_ptr<std::byte> base, std::size_t bytes)
      : file_(std::move(file)), base_(std::move(base)), bytes_(bytes), free_{{0, bytes}} {}

  const Address& address() const { return address_; }
  std::shared_ptr<const std::byte> shared_base() const { return base_; }
  bool holds(const std::byte* memory) const { return memory >= base_.get() && memory < base_.get() + bytes_; }
  std::size_t offset_of(const std::byte* memory) const { return static_cast<std::size_t>(memory - base_.get()); }

  /// Writes at the beginning what only the owner can know. Whether there was room.
  bool sign() {
    header_ = allocate(sizeof(Address));
    if (!header_ || getrandom(address_.nonce.data(), sizeof(address_.nonce), 0) != sizeof(address_.nonce)) return false;
    address_.process = getpid();
    address_.descriptor = file_.descriptor();
    address_.pool = this;
    std::memcpy(header_, &address_, sizeof(address_));
    return true;
  }

  std::shared_ptr<std::byte> share(std::size_t bytes) {
    std::byte* const memory = allocate(bytes);
    if (memory == nullptr) return nullptr;
    return {memory, [pool = shared_from_this(), bytes](std::byte* own) { pool->free(own, bytes); }};
  }

 private:
  static std::size_t unit(std::size_t bytes) { return bytes >= kHugePage ? kHugePage : kPage; }

  /// Every page is there when it returns: a host without memory shows here, and not as a signal later.
  bool populate(std::size_t first, std::size_t bytes) {
#ifdef MADV_POPULATE_WRITE
    if (madvise(base_.get() + first, bytes, MADV_POPULATE_WRITE) == 0) return true;
    if (errno != EINVAL) return false;
#endif
    return posix_fallocate(file_.descriptor(), static_cast<off_t>(first), static_cast<off_t>(bytes)) == 0;
  }

  std::byte* allocate(std::size_t wanted) {
    const std::size_t bytes = round_up(wanted, unit(wanted));
    const std::lock_guard lock(mutex_);
    for (auto [begin, end] : free_) {
      const std::size_t first = round_up(begin, unit(wanted));
      if (first + bytes > end) continue;
      if (!populate(first, bytes)) {
        give_back(first, bytes);
        return nullptr;
      }
      free_.erase(begin);
      if (first > begin) free_.emplace(begin, first);
      if (first + bytes < end) free_.emplace(first + bytes, end);
      return base_.get() + first;
    }
    return nullptr;
  }

  void free(const std::byte* memory, std::size_t wanted) {
    std::size_t first = offset_of(memory);
    std::size_t end = first + round_up(wanted, unit(wanted));
    const std::lock_guard lock(mutex_);
    give_back(first, end - first);
    const auto next = free_.lower_bound(first);
    if (next != free_.begin()) {
      if (const auto before = std::prev(next); before->second == first) first = before->first;
    }
    if (next != free_.end() && next->first == end) {
      end = next->second;
      free_.erase(next);
    }
    free_[first] = end;
  }

  /// To the system; zeros are read there from now on. MPI, which may know these pages, sees madvise() alone.
  void give_back(std::size_t first, std::size_t bytes) {
    if (madvise(base_.get() + first, bytes, MADV_REMOVE) == 0) return;
    fallocate(file_.descriptor(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(first),
              static_cast<off_t>(bytes));
  }

  const File file_;
  const std::shared_ptr<std::byte> base_;
  const std::size_t bytes_;
  Address address_;
  std::byte* header_ = nullptr;
  std::mutex mutex_;
  std::map<std::size_t, std::size_t> free_;  ///< begin and end; guarded by mutex_
};

namespace {

/// The memory of the rank that this address is of; null, with the reason, where it cannot be seen from here.
std::shared_ptr<const std::byte> find_pool(const SharedPool::Address& address, std::string& why_not) {
  const File file(
      open(format("/proc/{}/fd/{}", address.process, address.descriptor).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  SharedPool::Address found;
  struct stat status {};
  if (!file.is_open() || fstat(file.descriptor(), &status) != 0) {
    why_not = system_says("another rank's memory");
    return nullptr;
  }
  if (pread(file.descriptor(), &found, sizeof(found), 0) != sizeof(found) || found.nonce != address.nonce) {
    why_not = "another rank's memory is not on this system";
    return nullptr;
  }
  // The descriptor is one of this process: so is the rank, a thread of it.
  if (address.process == getpid()) return address.pool->shared_base();
  std::shared_ptr<const std::byte> memory = map(file, static_cast<std::size_t>(status.st_size), PROT_READ);
  if (!memory) why_not = system_says("mmap");
  return memory;
}

}  // namespace

HostMemory::HostMemory(int ranks_here) {
  const std::size_t bytes = pool_bytes(ranks_here);
  File file(memfd_create("dcs3gd", MFD_CLOEXEC));
  if (!file.is_open() || bytes == 0 || ftruncate(file.descriptor(), static_cast<off_t>(bytes)) != 0) {
    why_not_ = bytes == 0 ? "the limit for files (ulimit -f) leaves no room" : system_says("memfd_create");
    return;
  }
  std::shared_ptr<std::byte> base = map(file, bytes, PROT_READ | PROT_WRITE);
  if (!base) {
    why_not_ = system_says("mmap");
    return;
  }
  own_ = std::make_shared<SharedPool>(std::move(file), std::move(base), bytes);
  if (own_->sign()) return;
  why_not_ = "there is no memory left";
  own_ = nullptr;
}

std::string HostMemory::address() const {
  if (!own_) return why_not_;
  return kIsAddress + std::string(reinterpret_cast<const char*>(&own_->address()), sizeof(SharedPool::Address));
}

std::string HostMemory::connect(const std::vector<std::string>& addresses) {
  retired_.clear();
  pools_.clear();
  std::string why_not;
  for (const std::string& blob : addresses) {
    SharedPool::Address address;
    if (blob.size() != 1 + sizeof(address) || blob.front() != kIsAddress) return blob;
    std::memcpy(&address, blob.data() + 1, sizeof(address));
    pools_.push_back(find_pool(address, why_not));
    if (!pools_.back()) break;
  }
  return why_not;
}

std::shared_ptr<std::byte> HostMemory::allocate(std::size_t bytes) { return own_ ? own_->share(bytes) : nullptr; }

std::size_t HostMemory::offset_of(const void* memory) const {
  const auto* const place = static_cast<const std::byte*>(memory);
  return own_ && own_->holds(place) ? own_->offset_of(place) : kNowhere;
}

void HostMemory::retire(std::uint64_t number, std::shared_ptr<std::byte> memory) {
  const std::lock_guard lock(mutex_);
  retired_.push_back({number, std::move(memory)});
}

std::vector<std::uint64_t> HostMemory::retired() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::uint64_t> numbers(retired_.size());
  std::ranges::transform(retired_, numbers.begin(), &Retired::number);
  return numbers;
}

void HostMemory::release(std::span<const std::vector<std::uint64_t>> retired) {
  const std::lock_guard lock(mutex_);
  std::erase_if(retired_, [&](const Retired& own) {
    return std::ranges::all_of(retired, [&](const std::vector<std::uint64_t>& numbers) {
      return std::ranges::find(numbers, own.number) != numbers.end();
    });
  });
}

}  // namespace dcs3gd::comm
