#include "data/transform/sample_transform.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/format.h"
#include "core/random_stream.h"
#include "data/transform/color_jitter.h"
#include "data/transform/mixup.h"

namespace dcs3gd::data {
namespace {

/// Names the streams of random numbers of an image. Part of the reproducibility contract: append, never renumber.
enum class Draw : std::uint64_t { shift_and_flip = 0, crop = 1, color = 2 };

void check_augment_options(const AugmentOptions& augment, int image_size) {
  if (!(augment.mixup >= 0 && augment.mixup <= kMaxMixupAlpha)) {
    throw Error(ErrorKind::input,
                format("data.augment.mixup: expected 0 to {}, found {}", kMaxMixupAlpha, augment.mixup));
  }
  if (!(augment.color_jitter >= 0 && augment.color_jitter <= 1)) {
    throw Error(ErrorKind::input, format("data.augment.color_jitter: expected 0 to 1, found {}", augment.color_jitter));
  }
  if (augment.random_crop_padding < 0 || augment.random_crop_padding > image_size) {
    throw Error(ErrorKind::input, format("data.augment.random_crop_padding: expected 0 to the image size {}, found {}",
                                         image_size, augment.random_crop_padding));
  }
}

void check_normalization(const NormalizeOptions& normalize, int channels) {
  const auto count = static_cast<std::size_t>(channels);
  if (normalize.mean.size() != count || normalize.std.size() != count) {
    throw Error(ErrorKind::input,
                format("data.normalize: expected one mean and one std for each of {} channel(s), found {} and {}",
                       channels, normalize.mean.size(), normalize.std.size()));
  }
  for (std::size_t channel = 0; channel < count; ++channel) {
    if (std::isfinite(normalize.mean[channel]) && std::isfinite(normalize.std[channel]) && normalize.std[channel] > 0) {
      continue;
    }
    throw Error(ErrorKind::input, format("data.normalize: expected a finite mean and a std above 0, found {} and {}",
                                         normalize.mean[channel], normalize.std[channel]));
  }
}

RandomStream stream_of(std::uint64_t seed, std::int64_t epoch, std::uint32_t index, Draw draw) {
  return {seed, RandomPurpose::augmentation, static_cast<std::uint64_t>(epoch), index,
          static_cast<std::uint64_t>(draw)};
}

/// Copies one row of the shifted image: target column x shows source column x + shift, black outside.
void copy_row(const std::uint8_t* source, int shift, int size, const float* table, float* target) {
  const int first = std::clamp(-shift, 0, size);
  const int last = std::clamp(size - shift, 0, size);
  std::fill(target, target + first, table[0]);
  for (int x = first; x < last; ++x) target[x] = table[source[x + shift]];
  std::fill(target + last, target + size, table[0]);
}

}  // namespace

SampleTransform::SampleTransform(const DataOptions& options, const NormalizeOptions& normalize, Part part,
                                 std::uint64_t seed)
    : size_(options.image_size),
      padding_(part == Part::train ? options.augment.random_crop_padding : 0),
      flip_(part == Part::train && options.augment.horizontal_flip),
      random_resized_crop_(part == Part::train && options.augment.random_resized_crop),
      color_jitter_(part == Part::train ? options.augment.color_jitter : 0),
      mixup_(part == Part::train ? options.augment.mixup : 0),
      seed_(seed) {
  check_augment_options(options.augment, options.image_size);
  check_normalization(normalize, options.channels);
  tables_.resize(normalize.mean.size());
  for (std::size_t channel = 0; channel < tables_.size(); ++channel) {
    for (std::size_t byte = 0; byte < tables_[channel].size(); ++byte) {
      tables_[channel][byte] = (static_cast<float>(byte) / 255.0F - normalize.mean[channel]) / normalize.std[channel];
    }
  }
}

CropRule SampleTransform::crop_rule(std::int64_t epoch, std::uint32_t index) const {
  if (!random_resized_crop_) return CropRule::center(size_);
  return CropRule::random_resized(size_, stream_of(seed_, epoch, index, Draw::crop));
}

void SampleTransform::apply(std::span<std::uint8_t> pixels, std::int64_t epoch, std::uint32_t index,
                            std::span<float> image) const {
  if (color_jitter_ > 0) {
    RandomStream random = stream_of(seed_, epoch, index, Draw::color);
    jitter_colors(draw_color_change(color_jitter_, random), static_cast<int>(tables_.size()), pixels);
  }
  RandomStream random = stream_of(seed_, epoch, index, Draw::shift_and_flip);
  const auto offsets = static_cast<std::uint32_t>(2 * padding_ + 1);
  const int shift_y = static_cast<int>(random.below(offsets)) - padding_;
  const int shift_x = static_cast<int>(random.below(offsets)) - padding_;
  const bool flip = random.below(2) == 1 && flip_;

  const auto row = static_cast<std::size_t>(size_);
  for (std::size_t channel = 0; channel < tables_.size(); ++channel) {
    const float* table = tables_[channel].data();
    const std::uint8_t* source = pixels.data() + channel * row * row;
    float* target = image.data() + channel * row * row;
    for (int y = 0; y < size_; ++y, target += row) {
      const int source_y = y + shift_y;
      if (source_y < 0 || source_y >= size_) {
        std::fill(target, target + row, table[0]);
        continue;
      }
      copy_row(source + static_cast<std::size_t>(source_y) * row, shift_x, size_, table, target);
      if (flip) std::reverse(target, target + row);
    }
  }
}

void SampleTransform::mix(std::int64_t first, Batch& batch) const {
  if (mixup_ == 0 || batch.count == 0) return;
  const auto count = static_cast<std::size_t>(batch.count);
  const std::size_t image_floats = batch.images.size() / batch.labels.size();
  RandomStream random(seed_, RandomPurpose::mixup, static_cast<std::uint64_t>(batch.epoch),
                      static_cast<std::uint64_t>(first));
  batch.label_share = draw_mixup_share(mixup_, random);
  mix_images(batch.label_share, count, batch.images.span().first(count * image_floats));
  batch.other_labels = batch.labels;
  const auto other_labels = std::span(batch.other_labels).first(count);
  std::rotate(other_labels.begin(), other_labels.end() - 1, other_labels.end());
}

}  // namespace dcs3gd::data
