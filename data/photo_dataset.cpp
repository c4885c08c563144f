#include "data/photo_dataset.h"

#include <utility>

#include "core/format.h"
#include "data/resample.h"

namespace dcs3gd::data {

PhotoDataset::PhotoDataset(std::unique_ptr<const PhotoSource> source, DatasetProperties properties)
    : Dataset(std::move(properties)), source_(std::move(source)) {}

ReadResult PhotoDataset::read(std::uint32_t index, const Framing& framing, ReadBuffers& buffers,
                              std::span<std::uint8_t> pixels) const {
  std::string problem = source_->fetch(index, buffers.file);
  if (problem.empty()) problem = decode_image(buffers.file, framing, buffers.image);
  if (!problem.empty()) return {.label = 0, .problem = format("{}: {}", source_->name(index), problem)};
  resample(buffers.image, channels(), pixels);
  return {.label = source_->label(index), .problem = {}};
}

}  // namespace dcs3gd::data
