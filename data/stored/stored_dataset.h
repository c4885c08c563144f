#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace dcs3gd::data {

/// Images as a file holds them, one after the other, CHW.
struct StoredImages {
  int channels = 0;
  int height = 0;
  int width = 0;
  std::vector<std::uint8_t> pixels;  ///< labels.size() × channels × height × width
  std::vector<std::uint8_t> labels;
};

/// Images held in memory as bytes. Images smaller than `image_size` stand in the middle of a black square of that size.
class StoredDataset final : public Dataset {
 public:
  /// `origin` (format and path) is for messages and the description. Throws Error{input} if the images are larger than
  /// image_size or have another number of channels.
  StoredDataset(StoredImages images, int image_size, int channels, int classes, const std::string& origin);

  std::optional<std::uint64_t> identity(std::uint32_t index) const override;
  ReadResult read(std::uint32_t index, const CropRule& crop_rule, ReadBuffers& buffers,
                  std::span<std::uint8_t> pixels) const override;

 private:
  StoredImages images_;
};

/// Throws Error{input} unless `label` < `classes`.
void check_label(const std::string& path, std::uint64_t record, int label, int classes);

}  // namespace dcs3gd::data
