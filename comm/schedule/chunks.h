#pragma once

#include <algorithm>
#include <cstddef>

namespace dcs3gd::comm {

/// A part of a flat array, in elements.
struct Range {
  std::size_t first = 0;
  std::size_t count = 0;

  bool operator==(const Range&) const = default;
};

/// Chunks and segments begin at multiples of this many floats: a cache line.
constexpr std::size_t kLineFloats = 16;

constexpr std::size_t line_count(std::size_t floats) { return floats / kLineFloats + (floats % kLineFloats != 0); }

/// Chunk `chunk` of `chunk_count` of an array: whole cache lines, dealt out evenly, the first chunks one line longer
/// when they do not divide. Trailing chunks of a short array are empty. Depends on nothing else, so that the order in
/// which an element is summed never depends on tuning.
constexpr Range chunk_range(std::size_t floats, int chunk_count, int chunk) {
  const auto parts = static_cast<std::size_t>(chunk_count);
  const auto index = static_cast<std::size_t>(chunk);
  const std::size_t lines = line_count(floats);
  const std::size_t first_line = lines / parts * index + std::min(index, lines % parts);
  const std::size_t end_line = first_line + lines / parts + (index < lines % parts ? 1 : 0);
  const std::size_t first = std::min(floats, first_line * kLineFloats);
  return {first, std::min(floats, end_line * kLineFloats) - first};
}

/// `chunks` of them, one after the other from `chunk` on.
constexpr Range run_range(std::size_t floats, int chunk_count, int chunk, int chunks) {
  const Range last = chunk_range(floats, chunk_count, chunk + chunks - 1);
  const std::size_t first = chunk_range(floats, chunk_count, chunk).first;
  return {first, last.first + last.count - first};
}

/// Segment `segment` of a range cut into pieces of `segment_floats`, the last one shorter; empty after the end.
constexpr Range segment_range(Range range, std::size_t segment_floats, std::size_t segment) {
  const std::size_t begin = std::min(range.count, segment * segment_floats);
  return {range.first + begin, std::min(range.count - begin, segment_floats)};
}

/// How many segments a range is cut into; none if it is empty.
constexpr std::size_t segment_count(Range range, std::size_t segment_floats) {
  return range.count / segment_floats + (range.count % segment_floats != 0);
}

}  // namespace dcs3gd::comm
