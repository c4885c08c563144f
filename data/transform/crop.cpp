#include "data/transform/crop.h"

#include <algorithm>
#include <cmath>

namespace dcs3gd::data {
namespace {

/// ImageNet's customary sizes: 256 before the crop for images of 224.
constexpr int kSizeBeforeCrop = 256;
constexpr int kSizeAfterCrop = 224;

constexpr float kMinArea = 0.08F;
constexpr float kMaxArea = 1.0F;
constexpr double kMinRatio = 3.0 / 4.0;
constexpr double kMaxRatio = 4.0 / 3.0;
constexpr int kTries = 10;

int scaled_length(int length, int shorter, int longer) {
  return static_cast<int>(std::int64_t{length} * longer / shorter);
}

/// Half of what is left over; an odd pixel goes where Python's round() puts it.
int centered(int outer, int inner) { return static_cast<int>(std::nearbyint((outer - inner) / 2.0)); }

Crop center_crop(ImageSize image, int image_size, int shorter) {
  const ImageSize scaled = image.width <= image.height
                               ? ImageSize{shorter, scaled_length(shorter, image.width, image.height)}
                               : ImageSize{scaled_length(shorter, image.height, image.width), shorter};
  return {.source = {0, 0, image.width, image.height},
          .scaled = scaled,
          .window = {centered(scaled.width, image_size), centered(scaled.height, image_size), image_size, image_size}};
}

Crop whole_image(ImageSize image, int max_side) {
  const int longer = std::max(image.width, image.height);
  const double scale = longer > max_side ? static_cast<double>(max_side) / longer : 1;
  const auto scaled = [scale](int length) { return std::max(static_cast<int>(std::lround(length * scale)), 1); };
  const ImageSize target{scaled(image.width), scaled(image.height)};
  return {.source = {0, 0, image.width, image.height}, .scaled = target, .window = {0, 0, target.width, target.height}};
}

/// Ten draws may all fail for very long images; then the middle, of the nearest ratio that is allowed.
Box middle_box(ImageSize image) {
  const double ratio = static_cast<double>(image.width) / image.height;
  Box box{0, 0, image.width, image.height};
  if (ratio < kMinRatio) box.height = static_cast<int>(std::nearbyint(image.width / kMinRatio));
  if (ratio > kMaxRatio) box.width = static_cast<int>(std::nearbyint(image.height * kMaxRatio));
  box.x = (image.width - box.width) / 2;
  box.y = (image.height - box.height) / 2;
  return box;
}

Box random_box(ImageSize image, RandomStream random) {
  const double area = static_cast<double>(image.width) * image.height;
  for (int attempt = 0; attempt < kTries; ++attempt) {
    const double wanted = area * static_cast<double>(random.uniform(kMinArea, kMaxArea));
    const double log_min = std::log(kMinRatio);
    const double ratio = std::exp(log_min + (std::log(kMaxRatio) - log_min) * static_cast<double>(random.uniform()));
    const double width = std::nearbyint(std::sqrt(wanted * ratio));
    const double height = std::nearbyint(std::sqrt(wanted / ratio));
    if (width < 1 || width > image.width || height < 1 || height > image.height) continue;
    Box box{.width = static_cast<int>(width), .height = static_cast<int>(height)};
    box.y = static_cast<int>(random.below(static_cast<std::uint32_t>(image.height - box.height + 1)));
    box.x = static_cast<int>(random.below(static_cast<std::uint32_t>(image.width - box.width + 1)));
    return box;
  }
  return middle_box(image);
}

}  // namespace

int CropRule::shorter_side(int image_size) {
  return (image_size * kSizeBeforeCrop + kSizeAfterCrop / 2) / kSizeAfterCrop;
}

Crop CropRule::crop(ImageSize image) const {
  if (image_size_ == 0) return whole_image(image, side_);
  if (!random_) return center_crop(image, image_size_, side_);
  return {.source = random_box(image, *random_),
          .scaled = {image_size_, image_size_},
          .window = {0, 0, image_size_, image_size_}};
}

}  // namespace dcs3gd::data
