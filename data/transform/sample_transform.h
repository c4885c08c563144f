#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "data/batch.h"
#include "data/options.h"
#include "data/transform/crop.h"

namespace dcs3gd::data {

/// Turns images as they are stored into what the network sees, in this order: crop (done by the data set when it
/// reads), colour jitter, and in one pass random shift within the zero-padded image (black pixels, so the border is
/// normalised too), random horizontal flip, (pixel/255 − mean)/std; then mixup of a whole batch. Evaluation images are
/// cropped to the middle and normalised. What is drawn depends on (seed, epoch, index) alone, and the draws of one
/// change do not depend on whether another is switched on. Immutable: may be used by several threads at once.
class SampleTransform {
 public:
  /// `normalize`: one mean and std per channel. Throws Error{input} for settings that are out of range.
  SampleTransform(const DataOptions& options, const NormalizeOptions& normalize, Part part, std::uint64_t seed);

  /// How image `index` is cropped when it is read.
  CropRule crop_rule(std::int64_t epoch, std::uint32_t index) const;
  /// Writes image `index`, CHW, to `image`, from as many `pixels`, CHW bytes, which the colour jitter changes.
  void apply(std::span<std::uint8_t> pixels, std::int64_t epoch, std::uint32_t index, std::span<float> image) const;
  /// Mixes the images of a finished batch if mixup is on. `first` is where the batch begins in the epoch's order, which
  /// a worker's batch has on any number of ranks and in a run that was continued: it and the epoch decide the share.
  void mix(std::int64_t first, Batch& batch) const;

 private:
  using ByteToFloat = std::array<float, 256>;

  int size_;     ///< height and width
  int padding_;  ///< of the random shift
  bool flip_;
  bool random_resized_crop_;
  float color_jitter_;
  float mixup_;
  std::uint64_t seed_;
  std::vector<ByteToFloat> tables_;  ///< one per channel
};

}  // namespace dcs3gd::data
