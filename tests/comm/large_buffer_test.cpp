#include <cstdint>
#include <stdexcept>

#include <doctest/doctest.h>

#include "comm/communicator.h"
#include "comm/thread_world.h"
#include "core/aligned_buffer.h"

namespace dcs3gd::comm {
namespace {

constexpr std::size_t kBytes = (std::size_t{1} << 31) + 3;  // more than an int can count
const Options kOptions{.segment_bytes = std::size_t{1} << 20, .timeout_s = 120};

TEST_CASE("broadcast of 2^31 + 3 bytes") {
  run_ranks_as_threads(2, kOptions, [](Communicator& communicator) {
    AlignedBuffer<std::uint8_t> bytes(kBytes);
    const auto pattern = [](std::size_t i) { return static_cast<std::uint8_t>(i ^ (i >> 20)); };
    if (communicator.rank() == 0) {
      for (std::size_t i = 0; i < kBytes; ++i) bytes[i] = pattern(i);
    }
    communicator.broadcast(std::as_writable_bytes(bytes.span()));
    for (std::size_t i = 0; i < kBytes; ++i) {
      if (bytes[i] != pattern(i)) throw std::runtime_error("byte " + std::to_string(i));
    }
  });
}

TEST_CASE("all-reduce of a buffer of more than 2^31 bytes") {
  constexpr std::size_t kFloats = kBytes / sizeof(float) + 1;
  run_ranks_as_threads(2, kOptions, [](Communicator& communicator) {
    AlignedBuffer<float> values(kFloats);
    const auto pattern = [](std::size_t i) { return static_cast<float>(i % 1021); };
    for (std::size_t i = 0; i < kFloats; ++i) values[i] = pattern(i) + static_cast<float>(communicator.rank());
    communicator.plan_all_reduce({.values = values.span(), .factor = 1}).start().wait();
    for (std::size_t i = 0; i < kFloats; ++i) {
      if (values[i] != 2 * pattern(i) + 1) throw std::runtime_error("element " + std::to_string(i));
    }
  });
}

}  // namespace
}  // namespace dcs3gd::comm
