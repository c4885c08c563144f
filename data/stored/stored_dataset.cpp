#include "data/stored/stored_dataset.h"

#include <algorithm>
#include <span>

#include "core/error.h"
#include "core/format.h"
#include "core/hash.h"
#include "data/read_buffers.h"
#include "data/transform/resample.h"

namespace dcs3gd::data {
namespace {

DatasetProperties checked_properties(const StoredImages& images, int image_size, int channels, int classes,
                                     const std::string& origin) {
  const std::string shape = format("{}x{} pixels, {} channel(s)", images.height, images.width, images.channels);
  if (images.channels != channels) {
    throw Error(ErrorKind::input, format("{}: data.channels is {}, found images of {}; set data.channels: {}", origin,
                                         channels, shape, images.channels));
  }
  if (std::max(images.height, images.width) > image_size) {
    throw Error(ErrorKind::input, format("{}: data.image_size is {}, found images of {}; set data.image_size: {}",
                                         origin, image_size, shape, std::max(images.height, images.width)));
  }
  const bool padded = images.height != image_size || images.width != image_size;
  return {.size = static_cast<std::uint32_t>(images.labels.size()),
          .classes = classes,
          .channels = channels,
          .height = image_size,
          .width = image_size,
          .classes_found = images.labels.empty() ? 0 : std::ranges::max(images.labels) + 1,
          .description = format("{}: {} images of {}{}", origin, images.labels.size(), shape,
                                padded ? format(", zero-padded to {}x{}", image_size, image_size) : ""),
          .fingerprint = format("{} images of {} with the hashes {} and {}", images.labels.size(), shape,
                                hash_text(hash_bytes(std::as_bytes(std::span(images.pixels)))),
                                hash_text(hash_bytes(std::as_bytes(std::span(images.labels)))))};
}

}  // namespace

StoredDataset::StoredDataset(StoredImages images, int image_size, int channels, int classes, const std::string& origin)
    : Dataset(checked_properties(images, image_size, channels, classes, origin)), images_(std::move(images)) {}

std::optional<std::uint64_t> StoredDataset::identity(std::uint32_t index) const {
  const std::size_t bytes = images_.pixels.size() / images_.labels.size();
  return hash_bytes(std::as_bytes(std::span(images_.pixels).subspan(index * bytes, bytes)));
}

ReadResult StoredDataset::read(std::uint32_t index, const CropRule& crop_rule, ReadBuffers& buffers,
                               std::span<std::uint8_t> pixels) const {
  const auto rows = static_cast<std::size_t>(images_.height);
  const auto row_bytes = static_cast<std::size_t>(images_.width);
  const auto planes = static_cast<std::size_t>(images_.channels);
  const auto target_row_bytes = static_cast<std::size_t>(width());
  const std::size_t top = (static_cast<std::size_t>(height()) - rows) / 2;
  const std::size_t left = (target_row_bytes - row_bytes) / 2;

  const std::uint8_t* source = images_.pixels.data() + index * planes * rows * row_bytes;
  if (pixels.size() == planes * rows * row_bytes) {
    std::copy_n(source, pixels.size(), pixels.data());
  } else {
    std::fill(pixels.begin(), pixels.end(), std::uint8_t{0});
    for (std::size_t plane = 0; plane < planes; ++plane) {
      std::uint8_t* target =
          pixels.data() + (plane * static_cast<std::size_t>(height()) + top) * target_row_bytes + left;
      for (std::size_t row = 0; row < rows; ++row) {
        std::copy_n(source + (plane * rows + row) * row_bytes, row_bytes, target + row * target_row_bytes);
      }
    }
  }
  if (crop_rule.is_random()) recrop(crop_rule, channels(), width(), buffers.image, pixels);
  return {.label = images_.labels[index], .problem = {}};
}

void check_label(const std::string& path, std::uint64_t record, int label, int classes) {
  if (label < classes) return;
  throw Error(ErrorKind::input,
              format("{}: record {}: expected a label from 0 to {}, found {}; the file is damaged or of "
                     "another format, or model.classes is too small",
                     path, record, classes - 1, label));
}

}  // namespace dcs3gd::data
