#include "comm/ring_layout.h"

#include <cstdint>

#include <doctest/doctest.h>

#include "comm/ring.h"

namespace dcs3gd::comm {
namespace {

/// Chunks and their segments cover the array once, in order.
void check_cover(std::size_t floats, int chunk_count, std::size_t segment_floats) {
  const std::size_t segments = segments_per_chunk(floats, chunk_count, segment_floats);
  std::size_t next = 0;
  for (int chunk = 0; chunk < chunk_count; ++chunk) {
    const Range range = chunk_range(floats, chunk_count, chunk);
    REQUIRE(range.first == next);
    REQUIRE((range.count == 0 || range.first % kLineFloats == 0));
    for (std::size_t segment = 0; segment < segments; ++segment) {
      const Range part = segment_range(range, segment_floats, segment);
      REQUIRE(part.first == next);
      REQUIRE(part.count <= segment_floats);
      next += part.count;
    }
    REQUIRE(next == range.first + range.count);
  }
  REQUIRE(next == floats);
}

TEST_CASE("chunks and segments cover every length once") {
  for (int chunks = 1; chunks <= 9; ++chunks) {
    for (std::size_t floats = 0; floats < 700; ++floats) check_cover(floats, chunks, 32);
  }
}

TEST_CASE("chunks differ by one cache line at most") {
  for (int chunk = 0; chunk < 7; ++chunk) {
    const Range range = chunk_range(1000 * kLineFloats, 7, chunk);
    CHECK(range.count == (chunk < 6 ? 143 : 142) * kLineFloats);
  }
}

TEST_CASE("index arithmetic beyond 2^31 and 2^32 elements") {
  constexpr std::size_t kFloats = (std::size_t{5} << 31) + 7;
  constexpr std::size_t kSegment = 65536;
  std::size_t next = 0;
  for (int chunk = 0; chunk < 3; ++chunk) {
    const Range range = chunk_range(kFloats, 3, chunk);
    CHECK(range.first == next);
    CHECK(range.count > std::size_t{1} << 31);
    next += range.count;
    const std::size_t segments = segments_per_chunk(kFloats, 3, kSegment);
    const Range last = segment_range(range, kSegment, segments - 1);
    CHECK(last.first + last.count == next);
    CHECK(last.count > 0);
  }
  CHECK(next == kFloats);
  constexpr std::size_t kMost = SIZE_MAX / sizeof(float);
  const Range last = chunk_range(kMost, 128, 127);
  CHECK(last.first + last.count == kMost);
}

TEST_CASE("the ring closes") {
  const Ring ring(1, 4);
  CHECK(ring.right() == 2);
  CHECK(ring.left() == 0);
  CHECK(ring.behind(2) == 3);
  CHECK(ring.behind(9) == 0);
  CHECK(Ring(3, 4).right() == 0);
  CHECK(Ring(0, 1).right() == 0);
}

TEST_CASE("who may be missing: the further the step, the more ranks in between") {
  const Ring ring(0, 4, {"ash", "beech", "cedar", "elm"});
  CHECK(ring.missing_on_the_left(0) == "nothing comes from rank 3 on elm");
  CHECK(ring.missing_on_the_left(1) == "nothing comes from rank 3 on elm, which may be waiting for rank 2 on cedar");
  const std::string all =
      "nothing comes from rank 3 on elm, which may be waiting for rank 2 on cedar or rank 1 on beech";
  CHECK(ring.missing_on_the_left(2) == all);
  CHECK(ring.missing_on_the_left(5) == all);
}

}  // namespace
}  // namespace dcs3gd::comm
