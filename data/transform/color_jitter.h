#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "core/random_stream.h"

namespace dcs3gd::data {

/// torchvision's ColorJitter without hue: factors of three changes (1: none) and the order they are made in.
struct ColorChange {
  enum Kind { brightness, contrast, saturation };
  std::array<float, 3> factors{1, 1, 1};  ///< by kind
  std::array<Kind, 3> order{brightness, contrast, saturation};
};

/// Factors between 1 − strength and 1 + strength, in a random order.
ColorChange draw_color_change(float strength, RandomStream& random);

/// Changes an image in place; `pixels` are CHW bytes. Each change blends with another image, to the byte as Pillow
/// does: brightness with black, contrast with its mean luminance, saturation (of colour images) with its luminances.
void jitter_colors(const ColorChange& change, int channels, std::span<std::uint8_t> pixels);

}  // namespace dcs3gd::data
