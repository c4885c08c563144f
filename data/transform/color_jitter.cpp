#include "data/transform/color_jitter.h"

#include <algorithm>
#include <cstddef>

#include "core/simd.h"

namespace dcs3gd::data {
namespace {

/// ITU-R 601 as Pillow has it.
std::uint8_t luminance(int red, int green, int blue) {
  return static_cast<std::uint8_t>((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16);
}

/// `from` + factor · (value − from), cut to a byte.
std::uint8_t blend(std::uint8_t from, std::uint8_t value, float factor) {
  const float mixed = static_cast<float>(from) + factor * static_cast<float>(int{value} - int{from});
  return static_cast<std::uint8_t>(std::clamp(mixed, 0.0F, 255.0F));
}

DCS3GD_SIMD_CLONES void blend_with_constant(std::uint8_t from, float factor, std::uint8_t* pixels, std::size_t count) {
  DCS3GD_INDEPENDENT_ITERATIONS
  for (std::size_t i = 0; i < count; ++i) pixels[i] = blend(from, pixels[i], factor);
}

DCS3GD_SIMD_CLONES void blend_with_luminance(float factor, std::uint8_t* red, std::uint8_t* green, std::uint8_t* blue,
                                             std::size_t count) {
  DCS3GD_INDEPENDENT_ITERATIONS
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint8_t grey = luminance(red[i], green[i], blue[i]);
    red[i] = blend(grey, red[i], factor);
    green[i] = blend(grey, green[i], factor);
    blue[i] = blend(grey, blue[i], factor);
  }
}

/// Rounded.
std::uint8_t mean_luminance(int channels, std::span<const std::uint8_t> pixels) {
  const std::size_t plane = std::max<std::size_t>(pixels.size() / static_cast<std::size_t>(channels), 1);
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < plane; ++i) {
    sum += channels == 1 ? pixels[i] : luminance(pixels[i], pixels[plane + i], pixels[2 * plane + i]);
  }
  return static_cast<std::uint8_t>((2 * sum + plane) / (2 * plane));
}

}  // namespace

ColorChange draw_color_change(float strength, RandomStream& random) {
  ColorChange change;
  for (float& factor : change.factors) factor = random.uniform(1 - strength, 1 + strength);
  for (std::uint32_t last = 3; last > 1; --last) std::swap(change.order[last - 1], change.order[random.below(last)]);
  return change;
}

void jitter_colors(const ColorChange& change, int channels, std::span<std::uint8_t> pixels) {
  const std::size_t plane = pixels.size() / static_cast<std::size_t>(channels);
  for (const ColorChange::Kind kind : change.order) {
    const float factor = change.factors[kind];
    switch (kind) {
      case ColorChange::brightness:
        blend_with_constant(0, factor, pixels.data(), pixels.size());
        break;
      case ColorChange::contrast:
        blend_with_constant(mean_luminance(channels, pixels), factor, pixels.data(), pixels.size());
        break;
      case ColorChange::saturation:
        if (channels == 1) break;
        blend_with_luminance(factor, pixels.data(), pixels.data() + plane, pixels.data() + 2 * plane, plane);
        break;
    }
  }
}

}  // namespace dcs3gd::data
