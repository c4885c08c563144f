#include "data/transform/sample_transform.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "core/random_stream.h"
#include "tests/data/data_test_support.h"

namespace dcs3gd::data {
namespace {

DataOptions augment_options(int image_size, int channels, int padding, bool flip) {
  DataOptions options;
  options.format = "cifar10";
  options.image_size = image_size;
  options.channels = channels;
  options.augment.random_crop_padding = padding;
  options.augment.horizontal_flip = flip;
  if (channels == 1) options.normalize = {.mean = {0.25F}, .std = {0.5F}};
  return options;
}

Bytes random_image(int image_size, int channels) {
  RandomStream random(1, RandomPurpose::test);
  Bytes pixels(static_cast<std::size_t>(channels * image_size * image_size));
  for (std::uint8_t& byte : pixels) byte = static_cast<std::uint8_t>(random.below(256));
  return pixels;
}

std::vector<float> transformed(const SampleTransform& transform, const Bytes& pixels, std::int64_t epoch,
                               std::uint32_t index) {
  Bytes copy = pixels;
  std::vector<float> image(pixels.size());
  transform.apply(copy, epoch, index, image);
  return image;
}

/// Pads, crops at (top, left), mirrors and normalises, one step after the other, as one would write it down.
std::vector<float> naive(const Bytes& pixels, const NormalizeOptions& normalize, int size, int padding, int top,
                         int left, bool flip) {
  const int channels = static_cast<int>(normalize.mean.size());
  const int padded_size = size + 2 * padding;
  const auto at = [](int channel, int y, int x, int side) {
    return static_cast<std::size_t>((channel * side + y) * side + x);
  };
  Bytes padded(static_cast<std::size_t>(channels * padded_size * padded_size));
  std::vector<float> image(pixels.size());
  for (int channel = 0; channel < channels; ++channel) {
    for (int y = 0; y < size; ++y) {
      for (int x = 0; x < size; ++x) {
        padded[at(channel, y + padding, x + padding, padded_size)] = pixels[at(channel, y, x, size)];
      }
    }
    const auto c = static_cast<std::size_t>(channel);
    for (int y = 0; y < size; ++y) {
      for (int x = 0; x < size; ++x) {
        const int source_x = flip ? size - 1 - x : x;
        const float value = static_cast<float>(padded[at(channel, top + y, left + source_x, padded_size)]);
        image[at(channel, y, x, size)] = (value / 255.0F - normalize.mean[c]) / normalize.std[c];
      }
    }
  }
  return image;
}

}  // namespace

TEST_CASE("sample transform: without changes it normalises") {
  const Bytes pixels = random_image(5, 3);
  const NormalizeOptions normalize{.mean = {0.1F, 0.5F, 0.9F}, .std = {0.2F, 0.3F, 0.4F}};
  DataOptions options = augment_options(5, 3, 0, false);
  options.normalize = normalize;
  const std::vector<float> expected = naive(pixels, normalize, 5, 0, 0, 0, false);
  CHECK(transformed(transform_of(options, Part::train, 1), pixels, 0, 0) == expected);

  // Evaluation images are only normalised, whatever the training images suffer.
  options.augment.random_crop_padding = 4;
  options.augment.horizontal_flip = true;
  for (std::uint32_t index = 0; index < 20; ++index) {
    CHECK(transformed(transform_of(options, Part::eval, 1), pixels, 0, index) == expected);
  }
}

TEST_CASE("sample transform: crop and flip against the naive version, all offsets alike often") {
  constexpr int kSize = 6;
  constexpr int kImages = 5000;
  for (const int channels : {1, 3}) {
    for (const int padding : {0, 2, kSize}) {
      for (const bool flip : {false, true}) {
        CAPTURE(channels);
        CAPTURE(padding);
        CAPTURE(flip);
        const DataOptions options = augment_options(kSize, channels, padding, flip);
        const NormalizeOptions normalize = channels == 1 ? options.normalize : normalization_of({.format = "cifar10"});
        const Bytes pixels = random_image(kSize, channels);
        std::map<std::vector<float>, int> counts;
        std::size_t wholly_black = 0;  // crops that lie in the padding are all equal
        for (int top = 0; top <= 2 * padding; ++top) {
          for (int left = 0; left <= 2 * padding; ++left) {
            for (int mirrored = 0; mirrored <= (flip ? 1 : 0); ++mirrored) {
              const auto image = naive(pixels, normalize, kSize, padding, top, left, mirrored == 1);
              if (!counts.try_emplace(image, 0).second) ++wholly_black;
            }
          }
        }
        const SampleTransform transform = transform_of(options, Part::train, 3);
        int matched = 0;
        for (std::uint32_t index = 0; index < kImages; ++index) {
          const auto found = counts.find(transformed(transform, pixels, 0, index));
          if (found == counts.end()) continue;
          ++found->second;
          ++matched;
        }
        CHECK(matched == kImages);
        if (wholly_black > 0) continue;
        const double expected = static_cast<double>(kImages) / static_cast<double>(counts.size());
        for (const auto& [image, count] : counts) {
          CHECK(count > expected - 5 * std::sqrt(expected));
          CHECK(count < expected + 5 * std::sqrt(expected));
        }
      }
    }
  }
}

TEST_CASE("sample transform: what is drawn depends on seed, epoch and index alone") {
  const Bytes pixels = random_image(8, 3);
  const DataOptions options = augment_options(8, 3, 4, true);
  const SampleTransform transform = transform_of(options, Part::train, 1);
  const SampleTransform same = transform_of(options, Part::train, 1);
  const SampleTransform other = transform_of(options, Part::train, 2);
  int equal_epochs = 0;
  int equal_seeds = 0;
  int equal_indices = 0;
  constexpr int kImages = 200;
  for (std::uint32_t index = 0; index < kImages; ++index) {
    const auto image = transformed(transform, pixels, 7, index);
    CHECK(transformed(same, pixels, 7, index) == image);
    equal_epochs += transformed(transform, pixels, 8, index) == image ? 1 : 0;
    equal_seeds += transformed(other, pixels, 7, index) == image ? 1 : 0;
    equal_indices += transformed(transform, pixels, 7, index + 1) == image ? 1 : 0;
  }
  // By chance one of 162 is equal.
  CHECK(equal_epochs < 10);
  CHECK(equal_seeds < 10);
  CHECK(equal_indices < 10);
}

TEST_CASE("sample transform: switching flips on leaves the crops as they were") {
  const Bytes pixels = random_image(6, 1);
  const SampleTransform crops = transform_of(augment_options(6, 1, 2, false), Part::train, 1);
  const SampleTransform both = transform_of(augment_options(6, 1, 2, true), Part::train, 1);
  int flipped = 0;
  for (std::uint32_t index = 0; index < 100; ++index) {
    const auto plain = transformed(crops, pixels, 0, index);
    auto mirrored = plain;
    for (auto row = mirrored.begin(); row != mirrored.end(); row += 6) std::reverse(row, row + 6);
    const auto image = transformed(both, pixels, 0, index);
    const bool is_flipped = image == mirrored;
    CHECK((image == plain || is_flipped));
    flipped += is_flipped ? 1 : 0;
  }
  CHECK(flipped > 25);
  CHECK(flipped < 75);
}

TEST_CASE("sample transform: normalisation values") {
  const auto message = [](const NormalizeOptions& normalize) {
    DataOptions options;
    options.normalize = normalize;
    return input_error([&] { transform_of(options, Part::train, 1); });
  };
  CHECK(contains(message({.mean = {0.5F}, .std = {}}), "one mean and one std for each of 3 channel(s), found 1 and 3"));
  CHECK(contains(message({.mean = {}, .std = {1, 1}}), "found 3 and 2"));
  CHECK(contains(message({.mean = {}, .std = {1, 0, 1}}), "a std above 0"));
  CHECK(contains(message({.mean = {0, NAN, 0}, .std = {}}), "a finite mean"));
}

TEST_CASE("sample transform: what is out of range is refused") {
  const auto message = [](const AugmentOptions& augment) {
    DataOptions options;
    options.augment = augment;
    return input_error([&] { transform_of(options, Part::train, 1); });
  };
  CHECK(contains(message({.color_jitter = 1.5F}), "data.augment.color_jitter: expected 0 to 1, found 1.5"));
  CHECK(contains(message({.mixup = -0.2F}), "data.augment.mixup: expected 0 to 100, found -0.2"));
  CHECK(contains(message({.mixup = 101}), "data.augment.mixup"));
  CHECK(contains(message({.mixup = NAN}), "data.augment.mixup"));
  CHECK(
      contains(message({.random_crop_padding = -1}), "random_crop_padding: expected 0 to the image size 32, found -1"));
  CHECK(contains(message({.random_crop_padding = 33}), "random_crop_padding"));
}

}  // namespace dcs3gd::data
