#include "core/hash.h"

#define XXH_STATIC_LINKING_ONLY  // the size of a state, to keep it on our side
#include <xxhash.h>

#include "core/format.h"

namespace dcs3gd {

struct StreamingHash::State {
  XXH3_state_t xxh3;  // aligned to 64 bytes, which new respects
};

StreamingHash::StreamingHash() : state_(std::make_unique<State>()) { XXH3_64bits_reset(&state_->xxh3); }

StreamingHash::~StreamingHash() = default;

void StreamingHash::add(std::span<const std::byte> bytes) {
  XXH3_64bits_update(&state_->xxh3, bytes.data(), bytes.size());
}

std::uint64_t StreamingHash::value() const { return XXH3_64bits_digest(&state_->xxh3); }

std::uint64_t hash_bytes(std::span<const std::byte> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

std::string hash_text(std::uint64_t hash) { return format("{:016x}", hash); }

std::string hash_text(std::string_view text) { return hash_text(hash_bytes(std::as_bytes(std::span(text)))); }

}  // namespace dcs3gd
