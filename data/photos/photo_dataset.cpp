#include "data/photos/photo_dataset.h"

#include <filesystem>
#include <utility>

#include "core/error.h"
#include "core/format.h"
#include "core/printable.h"
#include "data/paths.h"
#include "data/photos/image_decoder.h"
#include "data/photos/image_folder.h"
#include "data/photos/open_photos.h"
#include "data/photos/shards.h"
#include "data/photos/tar_shards.h"
#include "data/read_buffers.h"

namespace dcs3gd::data {
namespace {

/// Where a part lies, and in which form.
struct PhotoPlace {
  std::string path;
  PhotoForm form = PhotoForm::image_folder;
};

bool is_image_folder(const DataOptions& options) { return options.format == "image_folder"; }

PhotoPlace place_of(const DataOptions& options, Part part) {
  const std::string path = part_folder(part_path(options, part), options.split > 0 ? Part::train : part);
  std::error_code ignored;
  const PhotoForm form = photo_form(path);
  if (is_image_folder(options)) {
    if (form == PhotoForm::image_folder) return {path, form};
    throw Error(ErrorKind::input, format("{}: expected folders of images, found {}; set data.format: shards", path,
                                         form == PhotoForm::shards ? "shards" : "tar files"));
  }
  if (form != PhotoForm::image_folder) return {path, form};
  if (std::filesystem::is_directory(path, ignored) && holds_tars(path)) return {path, PhotoForm::tar_files};
  throw Error(ErrorKind::input, format("{}: expected shards, found neither {} nor files NAME.tar; make shards with "
                                       "dcs3gd-data prepare, or set data.format: image_folder",
                                       path, kShardManifest));
}

/// What labels mean; empty: what the part itself says.
std::vector<std::string> known_classes(const DataOptions& options, Part part,
                                       const std::vector<std::string>& class_names) {
  if (!class_names.empty() || part == Part::train || !has_part(options, Part::train)) return class_names;
  const PhotoPlace training = place_of(options, Part::train);
  return photo_classes(training.path, training.form);
}

/// The classes that label an image folder.
std::vector<std::string> folder_classes(const DataOptions& options, Part part,
                                        const std::vector<std::string>& class_names, const std::string& folder) {
  std::vector<std::string> classes = known_classes(options, part, class_names);
  return classes.empty() ? list_classes(folder) : classes;
}

void check_class_count(const OpenRequest& request, const PhotoPlace& place, std::size_t classes, bool are_known) {
  const auto outputs = static_cast<std::size_t>(request.classes);
  if (classes > outputs) {
    throw Error(ErrorKind::input, format("{}: model.classes is {}, found {} classes; set model.classes: {}", place.path,
                                         outputs, classes, classes));
  }
  if (are_known || request.part == Part::train || place.form == PhotoForm::tar_files || classes == outputs) return;
  throw Error(ErrorKind::input,
              format("{}: found {} classes, the model has {}, and neither its weights nor data.train say which these "
                     "are; name the training images in data.train",
                     place.path, classes, outputs));
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
  if (!problem.empty()) return {.label = 0, .problem = printable(format("{}: {}", source_->name(index), problem))};
  return {.label = source_->label(index), .problem = {}};
}

std::shared_ptr<const Dataset> open_photo_dataset(const OpenRequest& request) {
  const PhotoPlace place = place_of(request.options, request.part);
  const std::vector<std::string> known = known_classes(request.options, request.part, request.class_names);
  Photos photos = open_photos(place.path, place.form, known, request.listing);
  check_class_count(request, place, photos.classes.size(), !known.empty());
  if (request.options.split > 0) photos = split_part(std::move(photos), request.options.split, request.part);
  DatasetProperties properties{.size = photos.source->size(),
                               .classes = request.classes,
                               .channels = request.options.channels,
                               .height = request.options.image_size,
                               .width = request.options.image_size,
                               .classes_found = static_cast<int>(photos.classes.size()),
                               .description = std::move(photos.summary),
                               .fingerprint = std::move(photos.fingerprint),
                               .warning = std::move(photos.warning),
                               .class_names = std::move(photos.classes)};
  return std::make_shared<PhotoDataset>(std::move(photos.source), std::move(properties));
}

std::string list_files(const DataOptions& options, Part part, const std::vector<std::string>& class_names,
                       const std::function<void()>& on_file) {
  const PhotoPlace place = place_of(options, part);
  if (place.form == PhotoForm::tar_files) return walk_tars(place.path, on_file);
  if (place.form == PhotoForm::shards) return "";
  return to_text(list_images(place.path, folder_classes(options, part, class_names, place.path), on_file));
}

FolderState files_state(const DataOptions& options, Part part, const std::vector<std::string>& class_names) {
  const PhotoPlace place = place_of(options, part);
  if (place.form != PhotoForm::image_folder) return {};
  return folder_state(place.path, folder_classes(options, part, class_names, place.path));
}

bool may_be_kept(const DataOptions& options, std::string_view listing) {
  return is_image_folder(options) && is_watched(listing);
}

std::string listing_problem(const DataOptions& options, Part part, std::string_view listing) {
  if (!is_image_folder(options)) return "";  // sizes are compared when tar files are opened
  return difference_to_folder(parse_listing(place_of(options, part).path, listing));
}

}  // namespace dcs3gd::data
