#include "core/hash.h"

#include <algorithm>
#include <array>
#include <span>

#include <doctest/doctest.h>

using namespace dcs3gd;

// The values are those of the xxhsum program (Debian's package xxhash): printf abc | xxhsum -H3
TEST_CASE("hashes are those of XXH3") {
  CHECK(hash_text("") == "2d06800538d394c2");
  CHECK(hash_text("abc") == "78af5f94892f3950");
}

TEST_CASE("in pieces of any length it is the same hash") {
  std::array<float, 1000> values{};
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  const auto bytes = std::as_bytes(std::span(values));
  for (const std::size_t length : {std::size_t{1}, std::size_t{255}, std::size_t{1024}, bytes.size()}) {
    StreamingHash hash;
    for (std::size_t at = 0; at < bytes.size(); at += length) {
      hash.add(bytes.subspan(at, std::min(length, bytes.size() - at)));
    }
    CHECK(hash.value() == hash_bytes(bytes));
  }
  CHECK(StreamingHash().value() == hash_bytes({}));
}

TEST_CASE("one bit makes another hash") {
  std::array<float, 1000> values{};
  const std::uint64_t before = hash_bytes(std::as_bytes(std::span(values)));
  values[999] = -0.0F;
  CHECK(hash_bytes(std::as_bytes(std::span(values))) != before);
}

TEST_CASE("a hash is written with all its digits") { CHECK(hash_text(std::uint64_t{0x1F}) == "000000000000001f"); }
