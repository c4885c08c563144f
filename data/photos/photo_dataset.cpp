#include "data/photos/photo_dataset.h"

#include <utility>

#include "core/error.h"
#include "core/format.h"
#include "data/paths.h"
#include "data/photos/image_decoder.h"
#include "data/photos/image_folder.h"
#include "data/photos/open_photos.h"
#include "data/photos/shards.h"
#include "data/read_buffers.h"

namespace dcs3gd::data {
namespace {

/// The folder of a part, which must be an image folder.
std::string image_folder(const DataOptions& options, Part part) {
  std::string folder = part_folder(part_path(options, part), part);
  if (photo_form(folder) == PhotoForm::image_folder) return folder;
  throw Error(ErrorKind::input,
              format("{}: expected folders of images, found shards; set data.format: shards", folder));
}

/// Empty if that part is not there.
std::vector<std::string> training_classes(const DataOptions& options) {
  if (!has_part(options, Part::train)) return {};
  return photo_classes(part_folder(part_path(options, Part::train), Part::train));
}

/// The classes that label an image folder: its own if the training part is not there.
std::vector<std::string> folder_classes(const DataOptions& options, const std::string& folder) {
  std::vector<std::string> classes = training_classes(options);
  return classes.empty() ? list_classes(folder) : classes;
}

std::shared_ptr<const Dataset> open_folder(const OpenRequest& request, const std::string& folder) {
  std::vector<std::string> expected = request.class_names;
  if (expected.empty() && request.part == Part::eval) expected = training_classes(request.options);
  Photos photos = open_photos(folder, expected, request.listing);
  if (!expected.empty() && photos.classes != expected) {
    throw Error(ErrorKind::input, format("{}: other classes than those of the training images", folder));
  }
  if (photos.classes.size() > static_cast<std::size_t>(request.classes)) {
    throw Error(ErrorKind::input, format("{}: model.classes is {}, found {} classes; set model.classes: {}", folder,
                                         request.classes, photos.classes.size(), photos.classes.size()));
  }
  DatasetProperties properties{.size = photos.source->size(),
                               .classes = request.classes,
                               .channels = request.options.channels,
                               .height = request.options.image_size,
                               .width = request.options.image_size,
                               .description = std::move(photos.summary),
                               .fingerprint = std::move(photos.fingerprint),
                               .class_names = std::move(photos.classes)};
  return std::make_shared<PhotoDataset>(std::move(photos.source), std::move(properties));
}

}  // namespace

std::string decode_photo(std::span<const std::uint8_t> file, const CropRule& crop_rule, int channels,
                         DecodedImage& image, std::span<std::uint8_t> pixels) {
  std::string problem = decode_image(file, crop_rule, image);
  if (problem.empty()) resample(image, channels, pixels);
  return problem;
}

PhotoDataset::PhotoDataset(std::unique_ptr<const PhotoSource> source, DatasetProperties properties)
    : Dataset(std::move(properties)), source_(std::move(source)) {}

ReadResult PhotoDataset::read(std::uint32_t index, const CropRule& crop_rule, ReadBuffers& buffers,
                              std::span<std::uint8_t> pixels) const {
  std::string problem = source_->fetch(index, buffers.file);
  if (problem.empty()) problem = decode_photo(buffers.file, crop_rule, channels(), buffers.image, pixels);
  if (!problem.empty()) return {.label = 0, .problem = format("{}: {}", source_->name(index), problem)};
  return {.label = source_->label(index), .problem = {}};
}

std::shared_ptr<const Dataset> open_image_folder(const OpenRequest& request) {
  const std::string folder = image_folder(request.options, request.part);
  const std::string problem =
      request.listing.empty() ? "" : listing_problem(request.options, request.part, request.listing);
  if (!problem.empty()) throw Error(ErrorKind::input, format("{}; let all hosts see the same files", problem));
  return open_folder(request, folder);
}

std::shared_ptr<const Dataset> open_packed_photos(const OpenRequest& request) {
  const std::string folder = part_folder(request.path, request.part);
  if (photo_form(folder) == PhotoForm::image_folder) {
    throw Error(ErrorKind::input, format("{}: expected shards, found neither {} nor tar files; make them with "
                                         "dcs3gd-data prepare, or set data.format: image_folder",
                                         folder, kShardManifest));
  }
  return open_folder(request, folder);
}

std::string list_files(const DataOptions& options, Part part, const std::function<void()>& on_file) {
  const std::string folder = image_folder(options, part);
  return to_text(list_images(folder, folder_classes(options, folder), on_file));
}

FolderState files_state(const DataOptions& options, Part part) {
  const std::string folder = image_folder(options, part);
  return folder_state(folder, folder_classes(options, folder));
}

std::string listing_problem(const DataOptions& options, Part part, std::string_view listing) {
  return difference_to_folder(parse_listing(image_folder(options, part), listing));
}

}  // namespace dcs3gd::data
