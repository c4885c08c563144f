#pragma once

#include <cstdint>
#include <span>

#include "data/dataset.h"

namespace dcs3gd::data {

/// Images drawn by code: a shape filled with stripes on a striped background, under noise. The class fixes the kind of
/// shape and ranges for the direction and the wavelength of the stripes; position, size, rotation, colours,
/// phases and noise are random. The colours of shape and background come from the same distribution, so the
/// mean image is grey for every class and a linear classifier on pixels learns nothing; a convolutional network does. A
/// mirror image belongs to the same class, so that horizontal flips are a valid augmentation.
///
/// Image `index` has label index mod classes; its pixels are a pure function of (seed, part, classes, image size,
/// channels, index). Per-pixel work is limited to exact IEEE operations: every instruction set draws the same.
class SyntheticDataset final : public Dataset {
 public:
  /// Throws Error{input} if the part's number of images is not positive or too large.
  SyntheticDataset(const DataOptions& options, Part part, std::uint64_t seed, int classes);

  ReadResult read(std::uint32_t index, const CropRule& crop_rule, ReadBuffers& buffers,
                  std::span<std::uint8_t> pixels) const override;

 private:
  Part part_;
  std::uint64_t seed_;
};

}  // namespace dcs3gd::data
