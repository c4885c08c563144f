#include "core/hash.h"

#include <xxhash.h>

#include "core/format.h"

namespace dcs3gd {

std::uint64_t hash_bytes(std::span<const std::byte> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

std::string hash_text(std::uint64_t hash) { return format("{:016x}", hash); }

std::string hash_text(std::string_view text) { return hash_text(hash_bytes(std::as_bytes(std::span(text)))); }

}  // namespace dcs3gd
