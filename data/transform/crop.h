#pragma once

#include <limits>
#include <optional>

#include "core/random_stream.h"

namespace dcs3gd::data {

/// Pixels.
struct ImageSize {
  int width = 0;
  int height = 0;

  bool operator==(const ImageSize&) const = default;
};

/// A rectangle of whole pixels; (x, y) is its upper left corner.
struct Box {
  int x = 0;
  int y = 0;
  int width = 0;
  int height = 0;

  bool operator==(const Box&) const = default;
};

/// Shows the part `source` of an image, scaled to `scaled`, and of that the part `window`.
struct Crop {
  Box source;
  ImageSize scaled;
  Box window;

  bool operator==(const Crop&) const = default;
};

/// Makes the square that the network sees of an image of any size; the geometry of torchvision's transforms.
class CropRule {
 public:
  /// The whole image as it is: no square, for checks and measurements.
  static CropRule whole() { return within(std::numeric_limits<int>::max()); }
  /// The whole image, scaled down so that its longer side has `max_side` pixels if it has more.
  static CropRule within(int max_side) { return {0, max_side, std::nullopt}; }
  /// What evaluation shows: Resize of the shorter side to image_size · 256/224 pixels, or to `shorter_side`, then
  /// CenterCrop.
  static CropRule center(int image_size) { return center(image_size, shorter_side(image_size)); }
  static CropRule center(int image_size, int shorter_side) { return {image_size, shorter_side, std::nullopt}; }
  /// image_size · 256/224, rounded.
  static int shorter_side(int image_size);
  /// RandomResizedCrop: a part of 8 to 100 % of the area, of an aspect ratio from 3:4 to 4:3, scaled to the square.
  /// What is drawn depends on `random` and the size of the image alone.
  static CropRule random_resized(int image_size, const RandomStream& random) { return {image_size, 0, random}; }

  Crop crop(ImageSize image) const;

  bool is_random() const { return random_.has_value(); }

 private:
  CropRule(int image_size, int side, const std::optional<RandomStream>& random)
      : image_size_(image_size), side_(side), random_(random) {}

  int image_size_;  ///< 0: no square
  int side_;        ///< of the scaled image: the shorter one before the middle is taken, the longest without a square
  std::optional<RandomStream> random_;
};

}  // namespace dcs3gd::data
