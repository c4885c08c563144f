#include "app/record/first_batch.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "data/photos/image_decoder.h"
#include "tests/support/file_helpers.h"
#include "tests/support/temporary_folder.h"

using namespace dcs3gd;
using namespace dcs3gd::app;

namespace {

/// Of the picture of this batch, the colour in the middle of each tile of 96 pixels, row by row.
std::vector<std::vector<int>> colours(const nn::BatchView& batch, const nn::ImageShape& shape,
                                      const data::NormalizeOptions& normalization, data::ImageSize size) {
  const test::TemporaryFolder folder;
  const std::string path = (folder.path() / "first_batch.jpg").string();
  write_first_batch(path, batch, shape, normalization);
  const std::string file = test::content_of(path);
  data::DecodedImage image;
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(file.data());
  REQUIRE(data::decode_image({bytes, file.size()}, data::CropRule::whole(), image) == "");
  CHECK(image.file_size == size);
  std::vector<std::vector<int>> found;
  for (int y = 48; y < size.height; y += 96) {
    for (int x = 48; x < size.width; x += 96) {
      const std::uint8_t* pixel = image.pixels.data() + 4 * (static_cast<std::ptrdiff_t>(y) * size.width + x);
      found.push_back({pixel[0], pixel[1], pixel[2]});
    }
  }
  return found;
}

bool are_near(const std::vector<int>& a, const std::vector<int>& b) {
  return std::ranges::equal(a, b, [](int left, int right) { return std::abs(left - right) < 12; });
}

}  // namespace

TEST_CASE("the first batch is shown in the colours of its images, enlarged") {
  const data::NormalizeOptions normalization{.mean = {0.5F, 0.25F, 0.125F}, .std = {0.25F, 0.5F, 1}};
  const nn::ImageShape shape{.channels = 3, .height = 8, .width = 8};
  // Five images of one colour each, as bytes.
  const std::vector<std::vector<int>> of_images{{255, 0, 0}, {0, 255, 0}, {0, 0, 255}, {128, 128, 128}, {250, 200, 20}};
  std::vector<float> pixels;
  for (const std::vector<int>& colour : of_images) {
    for (std::size_t channel = 0; channel < 3; ++channel) {
      const float value = static_cast<float>(colour[channel]) / 255;
      pixels.insert(pixels.end(), 64, (value - normalization.mean[channel]) / normalization.std[channel]);
    }
  }
  const auto found =
      colours({.images = pixels.data(), .count = 5}, shape, normalization, {.width = 384, .height = 192});
  REQUIRE(found.size() == 8);
  for (std::size_t i = 0; i < of_images.size(); ++i) CHECK(are_near(found[i], of_images[i]));
  CHECK(are_near(found[5], {0, 0, 0}));
}

TEST_CASE("of a batch of many grey images 16 are shown, and what no byte can say is white or black") {
  std::vector<float> pixels(20, 3);
  pixels[1] = -3;
  const auto found = colours({.images = pixels.data(), .count = 20}, {.channels = 1}, {.mean = {0.5F}, .std = {0.5F}},
                             {.width = 384, .height = 384});
  REQUIRE(found.size() == 16);
  CHECK(are_near(found[0], {255, 255, 255}));
  CHECK(are_near(found[1], {0, 0, 0}));
}
