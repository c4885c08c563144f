#include "data/photos/photo_dataset.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "core/format.h"
#include "data/photos/image_folder.h"
#include "data/photos/shards.h"
#include "data/photos/tar_shards.h"
#include "data/transform/resample.h"

namespace dcs3gd::data {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kClassesInSummary = 8;

std::vector<std::uint32_t> count_classes(const PhotoSource& source, std::size_t classes) {
  std::vector<std::uint32_t> counts(classes);
  for (std::uint32_t index = 0; index < source.size(); ++index) ++counts[static_cast<std::size_t>(source.label(index))];
  return counts;
}

/// The names of labels that have none.
std::vector<std::string> numbered_classes(std::size_t count) {
  std::vector<std::string> names;
  for (std::size_t label = 0; label < count; ++label) names.push_back(format("{}", label));
  return names;
}

/// For summaries.
std::string passed_over(std::uint64_t files) { return files > 0 ? format(", {} other files passed over", files) : ""; }

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

std::string class_summary(const std::vector<std::string>& classes, const std::vector<std::uint32_t>& counts) {
  std::uint64_t images = 0;
  for (const std::uint32_t count : counts) images += count;
  std::string list;
  for (std::size_t label = 0; label < std::min(classes.size(), kClassesInSummary); ++label) {
    list += format("{}{} {}", list.empty() ? "" : ", ", classes[label], counts[label]);
  }
  if (classes.size() > kClassesInSummary) list += format(", ... {} {}", classes.back(), counts.back());
  return format("{} images of {} classes ({})", images, classes.size(), list);
}

std::string part_folder(const std::string& path, Part part) {
  const fs::path folder = (fs::path(path) / "").parent_path();  // without a slash at the end
  const fs::path train = folder / "train";
  const fs::path val = folder / "val";
  std::error_code ignored;
  if (!fs::is_directory(train, ignored) || !fs::is_directory(val, ignored)) return folder.string();
  return (part == Part::train ? train : val).string();
}

bool holds_shards(const std::string& folder) {
  std::error_code ignored;
  return fs::exists(fs::path(folder) / kShardManifest, ignored) || holds_tars(folder);
}

std::vector<std::string> photo_classes(const std::string& folder) {
  if (holds_tars(folder)) return numbered_classes(open_tars(folder).classes);
  return holds_shards(folder) ? read_shard_manifest(folder).classes : list_classes(folder);
}

Photos open_photos(const std::string& folder, const std::vector<std::string>& classes, std::string_view listing_text) {
  Photos photos;
  if (holds_tars(folder)) {
    TarPhotos tars = open_tars(folder);
    photos.classes = classes.size() >= tars.classes ? classes : numbered_classes(tars.classes);
    photos.class_counts = count_classes(*tars.source, photos.classes.size());
    photos.fingerprint = format("{} images, tar files {}", tars.source->size(), tars.checksums);
    photos.summary = format("shards {}: {} in {} tar files{}", folder,
                            class_summary(photos.classes, photos.class_counts), tars.tars, passed_over(tars.ignored));
    photos.source = std::move(tars.source);
  } else if (holds_shards(folder)) {
    const ShardManifest manifest = read_shard_manifest(folder);
    photos.source = open_shards(folder, manifest);
    photos.classes = manifest.classes;
    photos.made = manifest.made;
    photos.fingerprint = shards_fingerprint(folder, manifest);
    photos.class_counts = count_classes(*photos.source, photos.classes.size());
    photos.summary = format("shards {}: {} in {} shards", folder, class_summary(photos.classes, photos.class_counts),
                            manifest.shards.size());
  } else {
    ImageListing listing = listing_text.empty() ? list_images(folder, classes.empty() ? list_classes(folder) : classes)
                                                : parse_listing(folder, listing_text);
    photos.classes = listing.classes;
    photos.class_counts = listing.class_counts;
    photos.fingerprint = listing.fingerprint;
    photos.summary = format("image_folder {}: {}{}", folder, class_summary(photos.classes, photos.class_counts),
                            passed_over(static_cast<std::uint64_t>(listing.ignored)));
    photos.source = open_files(std::move(listing));
  }
  return photos;
}

}  // namespace dcs3gd::data
