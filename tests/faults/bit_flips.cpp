// Preloaded into the ranks of a job (LD_PRELOAD), sets bits of a few floats on the wire:
// BIT_FLIP="RANK NUMBER BITS" is the rank, which of its messages of at least kLeastBytes, and which bits. Open MPI's
// handles are pointers.

#include <cstdlib>
#include <cstring>
#include <sstream>
#include <vector>

#include <dlfcn.h>

extern "C" int MPI_Isend(const void* data, int bytes, void* type, int to, int tag, void* world, void* request) {
  constexpr int kLeastBytes = 4096;
  using Send = int(const void*, int, void*, int, int, void*, void*);
  static const auto real_send = reinterpret_cast<Send*>(dlsym(RTLD_NEXT, "MPI_Isend"));
  static unsigned bits = 0;
  static long until_flip = [] {
    const char* const text = std::getenv("BIT_FLIP");
    const char* const rank = std::getenv("OMPI_COMM_WORLD_RANK");
    long odd_rank = -1;
    long number = -1;
    std::istringstream(text == nullptr ? "" : text) >> odd_rank >> number >> bits;
    return rank != nullptr && std::atol(rank) == odd_rank ? number : -1;
  }();
  if (bytes < kLeastBytes || until_flip < 0 || until_flip-- > 0) {
    return real_send(data, bytes, type, to, tag, world, request);
  }
  static std::vector<char> flipped;  // outlives the message
  flipped.resize(static_cast<std::size_t>(bytes));
  std::memcpy(flipped.data(), data, flipped.size());
  for (std::size_t at = 0; at + sizeof(bits) <= flipped.size(); at += flipped.size() / 64 * sizeof(bits)) {
    unsigned value = 0;
    std::memcpy(&value, &flipped[at], sizeof(value));
    value |= bits;
    std::memcpy(&flipped[at], &value, sizeof(value));
  }
  return real_send(flipped.data(), bytes, type, to, tag, world, request);
}
