#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace dcs3gd {

/// What a random stream is for. Part of the key, so that no two uses ever share numbers. Values are part of the
/// reproducibility contract: append, never renumber.
enum class RandomPurpose : std::uint32_t {
  initialization = 1,  ///< ids: parameter index
  shuffle = 2,         ///< ids: epoch
  augmentation = 3,    ///< ids: epoch, sample index
  dropout = 4,         ///< ids: step, worker, layer
  synthetic_data = 5,  ///< ids: data set part, sample index
  test = 6,
  mixup = 7,  ///< ids: epoch, position in its order of the batch's first sample
};

/// A reproducible random stream: Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC11).
/// The numbers are a pure function of (seed, purpose, ids, position): never of the rank, the thread or what was drawn
/// elsewhere, so N workers on any number of ranks draw the same. Cheap to construct. One thread per object.
class RandomStream {
 public:
  using Block = std::array<std::uint32_t, 4>;

  RandomStream(std::uint64_t seed, RandomPurpose purpose, std::uint64_t id0 = 0, std::uint64_t id1 = 0,
               std::uint64_t id2 = 0);

  std::uint32_t next_u32();
  /// Uniform in [0, 1), 24 bits.
  float uniform();
  /// Uniform in [low, high]; `high` itself only by rounding.
  float uniform(float low, float high) { return low + (high - low) * uniform(); }
  /// Standard normal (Box-Muller).
  float normal();
  /// Uniform in 0 … bound − 1 without bias (Lemire's method); bound > 0.
  std::uint32_t below(std::uint32_t bound);

  /// The `index`-th block of four numbers, independent of the position: random access for kernels.
  Block block(std::uint64_t index) const;

 private:
  std::array<std::uint32_t, 2> key_;
  std::uint64_t stream_id_;
  std::uint64_t next_block_ = 0;
  Block current_{};
  unsigned used_ = 4;
  float spare_normal_ = 0;
  bool has_spare_normal_ = false;
};

/// Philox4x32-10 itself, public for the known-answer test.
RandomStream::Block philox4x32_10(RandomStream::Block counter, std::array<std::uint32_t, 2> key);

/// Fisher-Yates shuffle.
void shuffle(std::span<std::uint32_t> values, RandomStream& random);

}  // namespace dcs3gd
