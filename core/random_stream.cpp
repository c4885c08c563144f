#include "core/random_stream.h"

#include <cmath>
#include <numbers>
#include <utility>

namespace dcs3gd {
namespace {

constexpr std::uint32_t low_half(std::uint64_t value) { return static_cast<std::uint32_t>(value); }
constexpr std::uint32_t high_half(std::uint64_t value) { return static_cast<std::uint32_t>(value >> 32); }

/// The finaliser of SplitMix64 (Steele et al., OOPSLA 2014): spreads every input bit over all output bits.
constexpr std::uint64_t mix(std::uint64_t value) {
  value += 0x9E3779B97F4A7C15U;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9U;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBU;
  return value ^ (value >> 31);
}

}  // namespace

RandomStream::Block philox4x32_10(RandomStream::Block counter, std::array<std::uint32_t, 2> key) {
  constexpr int kRounds = 10;
  for (int round = 0; round < kRounds; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53U} * counter[0];
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57U} * counter[2];
    counter = {high_half(product1) ^ counter[1] ^ key[0], low_half(product1), high_half(product0) ^ counter[3] ^ key[1],
               low_half(product0)};
    key[0] += 0x9E3779B9U;
    key[1] += 0xBB67AE85U;
  }
  return counter;
}

RandomStream::RandomStream(std::uint64_t seed, RandomPurpose purpose, std::uint64_t id0, std::uint64_t id1,
                           std::uint64_t id2) {
  const std::uint64_t key = mix(mix(seed) ^ static_cast<std::uint64_t>(purpose));
  key_ = {low_half(key), high_half(key)};
  stream_id_ = mix(mix(mix(id0) ^ id1) ^ id2);
}

RandomStream::Block RandomStream::block(std::uint64_t index) const {
  return philox4x32_10({low_half(index), high_half(index), low_half(stream_id_), high_half(stream_id_)}, key_);
}

std::uint32_t RandomStream::next_u32() {
  if (used_ == current_.size()) {
    current_ = block(next_block_++);
    used_ = 0;
  }
  return current_[used_++];
}

float RandomStream::uniform() { return static_cast<float>(next_u32() >> 8) * 0x1.0p-24F; }

float RandomStream::normal() {
  if (std::exchange(has_spare_normal_, false)) return spare_normal_;
  const float radius = std::sqrt(-2.0F * std::log(1.0F - uniform()));
  const float angle = 2.0F * std::numbers::pi_v<float> * uniform();
  spare_normal_ = radius * std::sin(angle);
  has_spare_normal_ = true;
  return radius * std::cos(angle);
}

std::uint32_t RandomStream::below(std::uint32_t bound) {
  std::uint64_t product = std::uint64_t{next_u32()} * bound;
  const std::uint32_t threshold = (0U - bound) % bound;
  while (low_half(product) < threshold) product = std::uint64_t{next_u32()} * bound;
  return high_half(product);
}

void shuffle(std::span<std::uint32_t> values, RandomStream& random) {
  for (std::size_t last = values.size(); last > 1; --last) {
    std::swap(values[last - 1], values[random.below(static_cast<std::uint32_t>(last))]);
  }
}

}  // namespace dcs3gd
