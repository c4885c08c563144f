#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace dcs3gd {

/// XXH3's 64 bits of these bytes (xxHash): tells different contents apart, at the speed of memory; no protection
/// against intent. The same on all machines.
std::uint64_t hash_bytes(std::span<const std::byte> bytes);

/// hash_bytes() of bytes that come in pieces.
class StreamingHash {
 public:
  StreamingHash();
  ~StreamingHash();
  StreamingHash(const StreamingHash&) = delete;
  StreamingHash& operator=(const StreamingHash&) = delete;

  void add(std::span<const std::byte> bytes);
  /// Of all bytes so far.
  std::uint64_t value() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// 16 hexadecimal digits.
std::string hash_text(std::uint64_t hash);

/// The hash of a text as text.
std::string hash_text(std::string_view text);

}  // namespace dcs3gd
