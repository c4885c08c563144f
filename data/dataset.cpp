#include "data/dataset.h"

#include <cstdlib>
#include <filesystem>

#include "core/error.h"
#include "core/format.h"
#include "data/cifar_reader.h"
#include "data/idx_reader.h"
#include "data/stored_dataset.h"
#include "data/synthetic_dataset.h"

namespace dcs3gd::data {
namespace {

constexpr const char* kDataFolderVariable = "DCS3GD_DATA";
/// Far above any use, low enough that sizes in bytes cannot overflow.
constexpr int kMaxImageSize = 16384;

std::string part_path(const DataOptions& options, Part part) {
  const std::string& path = part == Part::train ? options.train : options.eval;
  if (path.empty()) {
    throw Error(ErrorKind::input,
                format("data.{}: expected the path of the data set, found none; set it, or use data.format: synthetic",
                       part == Part::train ? "train" : "eval"));
  }
  return resolve_data_path(path);
}

void check_image_options(const DataOptions& options, int classes) {
  if (options.image_size < 1 || options.image_size > kMaxImageSize) {
    throw Error(ErrorKind::input,
                format("data.image_size: expected 1 to {} pixels, found {}", kMaxImageSize, options.image_size));
  }
  if (options.channels != 1 && options.channels != 3) {
    throw Error(ErrorKind::input, format("data.channels: expected 1 or 3, found {}", options.channels));
  }
  if (classes < 1) throw Error(ErrorKind::input, format("model.classes: expected at least 1, found {}", classes));
}

std::shared_ptr<const Dataset> open_stored(StoredImages images, const DataOptions& options, int classes,
                                           std::string_view format_name, const std::string& path) {
  return std::make_shared<StoredDataset>(std::move(images), options.image_size, options.channels, classes,
                                         format("{} {}", format_name, path));
}

[[noreturn]] void refuse_format(std::string_view name) {
  throw Error(
      ErrorKind::input,
      format("data.format: {} is not supported by this version; use synthetic, cifar10, cifar100 or idx", name));
}

}  // namespace

std::size_t Dataset::image_bytes() const {
  return static_cast<std::size_t>(channels()) * static_cast<std::size_t>(height()) * static_cast<std::size_t>(width());
}

std::shared_ptr<const Dataset> open_dataset(const DataOptions& options, Part part, std::uint64_t seed, int classes) {
  check_image_options(options, classes);
  switch (options.format) {
    case Format::synthetic:
      return std::make_shared<SyntheticDataset>(options, part, seed, classes);
    case Format::cifar10: {
      const std::string path = part_path(options, part);
      return open_stored(read_cifar10(path, part, classes), options, classes, "cifar10", path);
    }
    case Format::cifar100: {
      const std::string path = part_path(options, part);
      return open_stored(read_cifar100(path, part, classes), options, classes, "cifar100", path);
    }
    case Format::idx: {
      const std::string path = part_path(options, part);
      return open_stored(read_idx(path, part, classes), options, classes, "idx", path);
    }
    case Format::image_folder:
      refuse_format("image_folder");
    case Format::shards:
      refuse_format("shards");
  }
  throw Error(ErrorKind::failure, "open_dataset: unknown format");
}

std::string resolve_data_path(const std::string& path) {
  namespace fs = std::filesystem;
  const char* folder = std::getenv(kDataFolderVariable);
  const bool has_folder = folder != nullptr && *folder != '\0';
  const fs::path complete = fs::absolute(has_folder ? fs::path(folder) / path : fs::path(path)).lexically_normal();
  std::error_code ignored;
  if (fs::exists(complete, ignored)) return complete.string();
  const std::string reason = fs::path(path).is_absolute() ? "the path is absolute"
                             : has_folder
                                 ? format("{} is '{}'", kDataFolderVariable, folder)
                                 : format("{} is not set: relative to the current folder", kDataFolderVariable);
  throw Error(
      ErrorKind::input,
      format("data path '{}': nothing found at {} ({}); correct the path, or set {} to the folder that holds the "
             "data sets",
             path, complete.string(), reason, kDataFolderVariable));
}

}  // namespace dcs3gd::data
