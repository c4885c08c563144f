#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "data/options.h"
#include "data/transform/framing.h"

namespace dcs3gd::data {

/// The values used when the configuration names none (how they came about: data/README.md), one per channel.
NormalizeOptions default_normalization(Format format, int channels);

/// What happens to an image between its file and the network, in this order: framing (done by the data set), colour
/// jitter, and in one pass random crop from the zero-padded image (black pixels, so the border is normalised too),
/// random horizontal flip, (pixel/255 − mean)/std. Evaluation images are framed and normalised. What is drawn depends
/// on (seed, epoch, index) alone, and the draws of one change do not depend on whether another is switched on. Then the
/// images of a batch may be mixed (data/mixup.h).
/// Immutable: may be used by several threads at once.
class Augmentation {
 public:
  /// Throws Error{input} for settings that are out of range or not supported by this version.
  Augmentation(const DataOptions& options, Part part, std::uint64_t seed);

  /// How image `index` is framed.
  Framing framing(std::int64_t epoch, std::uint32_t index) const;
  /// Colour jitter, in place. `pixels`: CHW bytes of image `index`.
  void change_colors(std::span<std::uint8_t> pixels, std::int64_t epoch, std::uint32_t index) const;
  /// `pixels`: CHW bytes of image `index`; `image`: as many floats, CHW.
  void apply(std::span<const std::uint8_t> pixels, std::int64_t epoch, std::uint32_t index,
             std::span<float> image) const;
  bool mixes() const { return mixup_ > 0; }
  /// REQUIRES mixes(). By how much the images of a batch keep to themselves; `first` is where the batch begins in the
  /// epoch's order, which a worker's batch has on any number of ranks and in a run that was continued.
  float mixup_share(std::int64_t epoch, std::int64_t first) const;

 private:
  using ByteToFloat = std::array<float, 256>;

  int size_;  ///< height and width
  int padding_;
  bool flip_;
  bool random_resized_crop_;
  float color_jitter_;
  float mixup_;
  std::uint64_t seed_;
  std::vector<ByteToFloat> tables_;  ///< one per channel
};

}  // namespace dcs3gd::data
