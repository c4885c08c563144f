#include "core/aligned_buffer.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "core/error.h"

using dcs3gd::AlignedBuffer;
using dcs3gd::Error;
using dcs3gd::ErrorKind;

namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

bool aligned_to(const void* memory, std::size_t alignment) {
  return reinterpret_cast<std::uintptr_t>(memory) % alignment == 0;
}

std::string refusal_of(std::size_t count) {
  try {
    const AlignedBuffer<double> buffer(count);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::failure);
    return error.what();
  }
  return "allocated";
}

}  // namespace

TEST_CASE("buffers are aligned and zeroed, in memory that was used before too") {
  for (const std::size_t count : {1UL, 15UL, 16UL, 17UL, 1000UL, kHugePage / 4 - 1, kHugePage / 4, kHugePage / 4 + 1}) {
    CAPTURE(count);
    for (int round = 0; round < 2; ++round) {
      AlignedBuffer<float> buffer(count);
      CHECK(buffer.size() == count);
      CHECK(buffer.size_bytes() == count * sizeof(float));
      CHECK(aligned_to(buffer.data(), count * sizeof(float) >= kHugePage ? kHugePage : 64));
      CHECK(std::all_of(buffer.begin(), buffer.end(), [](float value) { return value == 0; }));
      std::fill(buffer.begin(), buffer.end(), 1.0F);  // dirt for the next round
    }
  }
}

TEST_CASE("an empty buffer is usable") {
  CHECK(AlignedBuffer<float>().size() == 0);
  const AlignedBuffer<float> empty(0);
  CHECK(empty.begin() == empty.end());
  CHECK(empty.span().empty());
}

TEST_CASE("moving a buffer moves the memory") {
  AlignedBuffer<int> source(100);
  source[99] = 7;
  const int* memory = source.data();
  const AlignedBuffer<int> target(std::move(source));
  CHECK(target.data() == memory);
  CHECK(target[99] == 7);
}

TEST_CASE("a size that cannot be had is refused by name, never wrapped to a small one") {
  CHECK(refusal_of(std::size_t{1} << 58).find("2305843009213693952 bytes") != std::string::npos);
  CHECK(refusal_of((std::size_t{1} << 61) + 1).find("out of memory") != std::string::npos);  // × 8 wraps to 8
  CHECK(refusal_of(std::numeric_limits<std::size_t>::max() / sizeof(double)).find("out of memory") !=
        std::string::npos);  // rounding up wraps to 0
  CHECK(refusal_of(std::numeric_limits<std::size_t>::max()).find("out of memory") != std::string::npos);
}
