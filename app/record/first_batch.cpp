#include "app/record/first_batch.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/files.h"
#include "data/photos/image_encoder.h"

namespace dcs3gd::app {
namespace {

constexpr int kMostImages = 16;
constexpr int kColumns = 4;
constexpr int kLeastPixels = 96;  // of an image in the picture, before it is enlarged by a whole factor
constexpr int kQuality = 85;

std::uint8_t byte_of(float value, float mean, float std) {
  return static_cast<std::uint8_t>(std::clamp(std::lround(255 * (value * std + mean)), 0L, 255L));
}

}  // namespace

void write_first_batch(const std::string& path, const nn::BatchView& batch, const nn::ImageShape& shape,
                       const data::NormalizeOptions& normalization) {
  const int images = std::min(batch.count, kMostImages);
  const int columns = std::min(images, kColumns);
  const int enlarged = (kLeastPixels + shape.width - 1) / shape.width;
  const int width = columns * shape.width * enlarged;
  const int height = (images + columns - 1) / columns * shape.height * enlarged;
  const auto plane = static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
  std::vector<std::uint8_t> planes(3 * plane);
  std::size_t at = 0;
  for (int colour = 0; colour < 3; ++colour) {
    const int channel = shape.channels == 3 ? colour : 0;
    const float mean = normalization.mean[static_cast<std::size_t>(channel)];
    const float std = normalization.std[static_cast<std::size_t>(channel)];
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < width; ++x, ++at) {
        const int row = y / enlarged;
        const int column = x / enlarged;
        const int image = row / shape.height * columns + column / shape.width;
        if (image >= images) continue;
        const std::ptrdiff_t pixel =
            ((static_cast<std::ptrdiff_t>(image) * shape.channels + channel) * shape.height + row % shape.height) *
                shape.width +
            column % shape.width;
        planes[at] = byte_of(batch.images[pixel], mean, std);
      }
    }
  }
  const std::vector<std::uint8_t> file = data::encode_jpeg({.width = width, .height = height}, planes, kQuality);
  write_file_atomically(path, std::string_view(reinterpret_cast<const char*>(file.data()), file.size()));
}

}  // namespace dcs3gd::app
