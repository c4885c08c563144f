#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace dcs3gd {

/// XXH3's 64 bits of these bytes (xxHash): tells different contents apart, at the speed of memory; no protection
/// against intent. The same on all machines.
std::uint64_t hash_bytes(std::span<const std::byte> bytes);

/// 16 hexadecimal digits.
std::string hash_text(std::uint64_t hash);

/// The hash of a text as text.
std::string hash_text(std::string_view text);

}  // namespace dcs3gd
