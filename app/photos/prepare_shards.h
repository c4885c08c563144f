#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace dcs3gd::app {

struct PrepareOptions {
  std::string input;
  std::string output;
  std::uint64_t shard_bytes = std::uint64_t{512} << 20;  ///< a shard ends with the image that reaches this
  int threads = 1;
  std::optional<int> max_side;  ///< pixels: larger images are shrunk; none: all files stay as they are
  int quality = 90;             ///< of the JPEG files that shrunk images become, 1 to 100
};

/// `dcs3gd-data prepare`: packs an image folder, or its parts `train` and `val`, into shards (data/photos/shards.h),
/// the files as they are or shrunk. An image that cannot be decoded stays as it is, with a warning. Every shard appears
/// whole or not at all, the manifest last; started again after an interruption, shards that are complete stay. Throws
/// Error{input} for what is wrong with the images or the output folder.
void prepare_shards(const PrepareOptions& options);

}  // namespace dcs3gd::app
