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

/// What is shown of an image: its part `source`, scaled to `scaled`, of which `window` is taken.
struct Frame {
  Box source;
  ImageSize scaled;
  Box window;

  bool operator==(const Frame&) const = default;
};

/// How an image of any size becomes the square that the network sees; the geometry of torchvision's transforms.
class Framing {
 public:
  /// The whole image as it is: no square, for checks and measurements.
  static Framing whole() { return {}; }
  /// The whole image, scaled down so that its longer side has `max_side` pixels if it has more.
  static Framing within(int max_side);
  /// What evaluation shows: Resize of the shorter side to image_size · 256/224 pixels, then CenterCrop.
  static Framing center(int image_size);
  /// RandomResizedCrop: a part of 8 to 100 % of the area, of an aspect ratio from 3:4 to 4:3, scaled to the square.
  /// What is drawn depends on `random` and the size of the image alone.
  static Framing random_resized(int image_size, const RandomStream& random);

  Frame frame(ImageSize image) const;

  bool is_random() const { return random_.has_value(); }

 private:
  Framing() = default;

  int image_size_ = 0;  ///< 0: no square
  int max_side_ = std::numeric_limits<int>::max();
  std::optional<RandomStream> random_;
};

}  // namespace dcs3gd::data
