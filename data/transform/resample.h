#pragma once

#include <cstdint>
#include <span>

#include "data/photos/image_decoder.h"

namespace dcs3gd::data {

/// Scales `image.source` to `image.frame.scaled` and writes frame.window of it as bytes, CHW, to `planes`: red, green
/// and blue, or with one channel their luminance (ITU-R 601, as Pillow's "L"). The filter is Pillow's and torchvision's
/// bilinear one with antialiasing: a triangle that covers two source pixels, or two target pixels when shrinking; only
/// pixels of the source area count.
void resample(const DecodedImage& image, int channels, std::span<std::uint8_t> planes);

/// A square image as resample() writes them, framed anew in place. `scratch` keeps its memory from call to call.
void reframe(const Framing& framing, int channels, int image_size, DecodedImage& scratch,
             std::span<std::uint8_t> planes);

}  // namespace dcs3gd::data
