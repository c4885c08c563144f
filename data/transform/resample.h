#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "data/transform/crop.h"

namespace dcs3gd::data {

/// Where a rectangle of an image lies within decoded pixels; not whole when these are scaled.
struct Area {
  double x = 0;
  double y = 0;
  double width = 0;
  double height = 0;
};

/// A decoded pixel: R, G, B and a byte without meaning.
constexpr int kPixelBytes = 4;
/// Bytes without meaning after the last pixel, so that vectors may be read whole.
constexpr std::size_t kPixelPadding = 16;

/// The decoded pixels around what a crop shows. Grey comes as equal R, G and B, CMYK as RGB, transparency is dropped.
struct DecodedImage {
  ImageSize file_size;               ///< of the image in the file
  Crop crop;                         ///< chosen for it
  int width = 0;                     ///< of the pixels held
  int height = 0;                    ///< of the pixels held
  Area source;                       ///< crop.source within them
  std::vector<std::uint8_t> pixels;  ///< height × width × kPixelBytes, then the padding

  /// Makes room for width × height pixels.
  void allocate();
};

/// Scales `image.source` to `image.crop.scaled` and writes crop.window of it as bytes, CHW, to `planes`: red, green
/// and blue, or with one channel their luminance (ITU-R 601, as Pillow's "L"). The filter is Pillow's and torchvision's
/// bilinear one with antialiasing: a triangle that covers two source pixels, or two target pixels when shrinking; only
/// pixels of the source area count.
void resample(const DecodedImage& image, int channels, std::span<std::uint8_t> planes);

/// A square image as resample() writes them, cropped anew in place. `scratch` keeps its memory from call to call.
void recrop(const CropRule& crop_rule, int channels, int image_size, DecodedImage& scratch,
            std::span<std::uint8_t> planes);

}  // namespace dcs3gd::data
