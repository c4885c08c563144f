#include "data/dataset.h"

#include <cstdlib>
#include <filesystem>

#include "core/error.h"
#include "core/format.h"
#include "data/photos/image_folder.h"
#include "data/photos/photo_dataset.h"
#include "data/photos/shards.h"
#include "data/stored/cifar_reader.h"
#include "data/stored/idx_reader.h"
#include "data/stored/stored_dataset.h"
#include "data/synthetic_dataset.h"

namespace dcs3gd::data {
namespace {

namespace fs = std::filesystem;

constexpr const char* kDataFolderVariable = "DCS3GD_DATA";
/// Far above any use, low enough that sizes in bytes cannot overflow.
constexpr int kMaxImageSize = 16384;

/// None if the variable is not set or empty.
const char* data_folder() {
  const char* folder = std::getenv(kDataFolderVariable);
  return folder != nullptr && *folder != '\0' ? folder : nullptr;
}

fs::path complete_path(const std::string& path) {
  const char* folder = data_folder();
  return fs::absolute(folder != nullptr ? fs::path(folder) / path : fs::path(path)).lexically_normal();
}

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

/// The classes of the training images count for both parts: an evaluation folder that lacks one must not shift labels.
std::vector<std::string> class_names(const DataOptions& options, const std::string& folder) {
  if (!is_data_present(options, Part::train)) return photo_classes(folder);
  return photo_classes(part_folder(part_path(options, Part::train), Part::train));
}

/// Where the photos of a part are, in the form that the options name.
std::string photo_folder(const DataOptions& options, Part part) {
  std::string folder = part_folder(part_path(options, part), part);
  if (holds_shards(folder) != (options.format == Format::shards)) {
    throw Error(ErrorKind::input,
                options.format == Format::shards
                    ? format("{}: expected shards, found neither {} nor tar files; make them with dcs3gd-data "
                             "prepare, or set data.format: image_folder",
                             folder, kShardManifest)
                    : format("{}: expected folders of images, found shards; set data.format: shards", folder));
  }
  return folder;
}

std::shared_ptr<const Dataset> open_photo_dataset(const DataOptions& options, Part part, int classes,
                                                  std::string_view listing) {
  const std::string folder = photo_folder(options, part);
  const std::vector<std::string> names = class_names(options, folder);
  if (names.size() > static_cast<std::size_t>(classes)) {
    throw Error(ErrorKind::input, format("{}: model.classes is {}, found {} classes; set model.classes: {}", folder,
                                         classes, names.size(), names.size()));
  }
  if (const std::string problem = listing.empty() ? "" : listing_problem(options, part, listing); !problem.empty()) {
    throw Error(ErrorKind::input, format("{}; let all hosts see the same files", problem));
  }
  Photos photos = open_photos(folder, names, listing);
  if (photos.classes != names) {
    throw Error(ErrorKind::input, format("{}: other classes than those of the training images", folder));
  }
  DatasetProperties properties{.size = photos.source->size(),
                               .classes = classes,
                               .channels = options.channels,
                               .height = options.image_size,
                               .width = options.image_size,
                               .description = std::move(photos.summary),
                               .fingerprint = std::move(photos.fingerprint),
                               .class_names = std::move(photos.classes)};
  return std::make_shared<PhotoDataset>(std::move(photos.source), std::move(properties));
}

}  // namespace

std::size_t Dataset::image_bytes() const {
  return static_cast<std::size_t>(channels()) * static_cast<std::size_t>(height()) * static_cast<std::size_t>(width());
}

std::shared_ptr<const Dataset> open_dataset(const DataOptions& options, Part part, std::uint64_t seed, int classes,
                                            std::string_view listing) {
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
    case Format::shards:
      return open_photo_dataset(options, part, classes, listing);
  }
  throw Error(ErrorKind::failure, "open_dataset: unknown format");
}

bool lists_files(const DataOptions& options) { return options.format == Format::image_folder; }

std::string list_files(const DataOptions& options, Part part, const std::function<void()>& on_file) {
  const std::string folder = photo_folder(options, part);
  return to_text(list_images(folder, class_names(options, folder), on_file));
}

FolderState files_state(const DataOptions& options, Part part) {
  const std::string folder = photo_folder(options, part);
  return folder_state(folder, class_names(options, folder));
}

std::string listing_problem(const DataOptions& options, Part part, std::string_view listing) {
  return difference_to_folder(parse_listing(photo_folder(options, part), listing));
}

bool is_data_present(const DataOptions& options, Part part) {
  const std::string& path = part == Part::train ? options.train : options.eval;
  std::error_code ignored;
  return options.format == Format::synthetic || (!path.empty() && fs::exists(complete_path(path), ignored));
}

std::string resolve_data_path(const std::string& path) {
  const fs::path complete = complete_path(path);
  std::error_code ignored;
  if (fs::exists(complete, ignored)) return complete.string();
  const char* folder = data_folder();
  const std::string reason = fs::path(path).is_absolute() ? "the path is absolute"
                             : folder != nullptr
                                 ? format("{} is '{}'", kDataFolderVariable, folder)
                                 : format("{} is not set: relative to the current folder", kDataFolderVariable);
  throw Error(
      ErrorKind::input,
      format("data path '{}': nothing found at {} ({}); correct the path, or set {} to the folder that holds the "
             "data sets",
             path, complete.string(), reason, kDataFolderVariable));
}

}  // namespace dcs3gd::data
