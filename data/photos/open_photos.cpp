#include "data/photos/open_photos.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "core/error.h"
#include "core/format.h"
#include "data/photos/image_folder.h"
#include "data/photos/shards.h"
#include "data/photos/tar_shards.h"

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

/// "144 images of 6 classes (cardboard 24, glass 24, …)"
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

/// For summaries.
std::string passed_over(std::uint64_t files) { return files > 0 ? format(", {} other files passed over", files) : ""; }

/// Adds what follows from the images; `origin` and `rest` are the ends of the summary.
Photos completed(Photos photos, const std::string& origin, const std::string& rest) {
  photos.class_counts = count_classes(*photos.source, photos.classes.size());
  photos.summary = format("{}: {}{}", origin, class_summary(photos.classes, photos.class_counts), rest);
  return photos;
}

Photos open_listed(const std::string& folder, const std::vector<std::string>& classes, std::string_view text) {
  const std::vector<std::string> expected = classes.empty() ? list_classes(folder) : classes;
  ImageListing listing = text.empty() ? list_images(folder, expected) : parse_listing(folder, text);
  if (listing.classes != expected) {
    throw Error(ErrorKind::input,
                format("{}: other classes than when it was listed; let all hosts see the same files", folder));
  }
  const std::string rest = passed_over(static_cast<std::uint64_t>(listing.ignored));
  Photos photos{.classes = listing.classes, .fingerprint = listing.fingerprint};
  photos.source = open_files(std::move(listing));
  return completed(std::move(photos), format("image_folder {}", folder), rest);
}

Photos open_packed_shards(const std::string& folder) {
  ShardManifest manifest = read_shard_manifest(folder);
  ShardPhotos shards = open_shards(folder, manifest);
  Photos photos{.source = std::move(shards.source), .classes = manifest.classes, .provenance = manifest.provenance};
  photos.fingerprint =
      format("{} images in {} classes, shards {}", photos.source->size(), photos.classes.size(), shards.checksums);
  return completed(std::move(photos), format("shards {}", folder), format(" in {} shards", manifest.shards.size()));
}

Photos open_tar_files(const std::string& folder, const std::vector<std::string>& classes) {
  TarPhotos tars = open_tars(folder);
  Photos photos{.source = std::move(tars.source),
                .classes = classes.size() >= tars.classes ? classes : numbered_classes(tars.classes)};
  photos.fingerprint = format("{} images, tar files {}", photos.source->size(), tars.checksums);
  return completed(std::move(photos), format("shards {}", folder),
                   format(" in {} tar files{}", tars.tars, passed_over(tars.ignored)));
}

}  // namespace

PhotoForm photo_form(const std::string& folder) {
  if (holds_tars(folder)) return PhotoForm::tar_files;
  std::error_code ignored;
  return fs::exists(fs::path(folder) / kShardManifest, ignored) ? PhotoForm::shards : PhotoForm::image_folder;
}

std::string part_folder(const std::string& path, Part part) {
  const fs::path folder = (fs::path(path) / "").parent_path();  // without a slash at the end
  const fs::path train = folder / "train";
  const fs::path val = folder / "val";
  std::error_code ignored;
  if (!fs::is_directory(train, ignored) || !fs::is_directory(val, ignored)) return folder.string();
  return (part == Part::train ? train : val).string();
}

Photos open_photos(const std::string& folder, const std::vector<std::string>& classes, std::string_view listing) {
  const PhotoForm form = photo_form(folder);
  if (form == PhotoForm::image_folder) return open_listed(folder, classes, listing);
  return form == PhotoForm::shards ? open_packed_shards(folder) : open_tar_files(folder, classes);
}

std::vector<std::string> photo_classes(const std::string& folder) {
  const PhotoForm form = photo_form(folder);
  if (form == PhotoForm::image_folder) return list_classes(folder);
  return form == PhotoForm::shards ? read_shard_manifest(folder).classes : open_tar_files(folder, {}).classes;
}

}  // namespace dcs3gd::data
