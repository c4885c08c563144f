#include "data/photos/open_photos.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <span>
#include <utility>

#include "core/error.h"
#include "core/format.h"
#include "core/hash.h"
#include "core/printable.h"
#include "data/paths.h"
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
  photos.summary = printable(format("{}: {}{}", origin, class_summary(photos.classes, photos.class_counts), rest));
  return photos;
}

/// Images with other labels: the classes of their source have other places among those of the model.
class Relabelled final : public PhotoSource {
 public:
  Relabelled(std::unique_ptr<const PhotoSource> source, std::vector<std::int32_t> labels)
      : source_(std::move(source)), labels_(std::move(labels)) {}

  std::uint32_t size() const override { return source_->size(); }
  std::int32_t label(std::uint32_t index) const override {
    return labels_[static_cast<std::size_t>(source_->label(index))];
  }
  std::uint64_t bytes(std::uint32_t index) const override { return source_->bytes(index); }
  std::string name(std::uint32_t index) const override { return source_->name(index); }
  std::uint64_t identity(std::uint32_t index) const override { return source_->identity(index); }
  std::string fetch(std::uint32_t index, std::vector<std::uint8_t>& file) const override {
    return source_->fetch(index, file);
  }

 private:
  std::unique_ptr<const PhotoSource> source_;
  std::vector<std::int32_t> labels_;
};

/// Some of the images.
class Subset final : public PhotoSource {
 public:
  Subset(std::unique_ptr<const PhotoSource> source, std::vector<std::uint32_t> indices)
      : source_(std::move(source)), indices_(std::move(indices)) {}

  std::uint32_t size() const override { return static_cast<std::uint32_t>(indices_.size()); }
  std::int32_t label(std::uint32_t index) const override { return source_->label(indices_[index]); }
  std::uint64_t bytes(std::uint32_t index) const override { return source_->bytes(indices_[index]); }
  std::string name(std::uint32_t index) const override { return source_->name(indices_[index]); }
  std::uint64_t identity(std::uint32_t index) const override { return source_->identity(indices_[index]); }
  std::string fetch(std::uint32_t index, std::vector<std::uint8_t>& file) const override {
    return source_->fetch(indices_[index], file);
  }

 private:
  std::unique_ptr<const PhotoSource> source_;
  std::vector<std::uint32_t> indices_;
};

std::uint64_t hash_of_file_name(const PhotoSource& source, std::uint32_t index) {
  const std::string name = source.name(index);
  return hash_bytes(std::as_bytes(std::span(name).subspan(name.rfind('/') + 1)));
}

Photos open_listed(const std::string& folder, const std::vector<std::string>& classes, std::string_view text) {
  ImageListing listing = text.empty() ? list_images(folder, classes.empty() ? list_classes(folder) : classes)
                                      : parse_listing(folder, text);
  if (!classes.empty() && listing.classes != classes) {
    throw Error(ErrorKind::input,
                format("{}: other classes than when it was listed; let all hosts see the same files", folder));
  }
  const std::string rest = passed_over(static_cast<std::uint64_t>(listing.ignored));
  Photos photos{.classes = listing.classes, .fingerprint = listing.fingerprint};
  photos.source = open_files(std::move(listing));
  return completed(std::move(photos), format("image_folder {}", folder), rest);
}

Photos open_packed_shards(const std::string& folder, const std::vector<std::string>& classes) {
  ShardManifest manifest = read_shard_manifest(folder);
  ShardPhotos shards = open_shards(folder, manifest);
  Photos photos{.source = std::move(shards.source), .classes = manifest.classes, .provenance = manifest.provenance};
  photos.fingerprint =
      format("{} images in {} classes, shards {}", photos.source->size(), photos.classes.size(), shards.checksums);
  if (!classes.empty() && classes != manifest.classes) {
    photos.source =
        std::make_unique<Relabelled>(std::move(photos.source), labels_in(folder, manifest.classes, classes));
    photos.classes = classes;
  }
  return completed(std::move(photos), format("shards {}", folder), format(" in {} shards", manifest.shards.size()));
}

Photos open_tar_files(const std::string& place, const std::vector<std::string>& classes, std::string_view walked) {
  TarPhotos tars = open_tars(place, walked);
  if (!classes.empty() && tars.classes > classes.size()) {
    throw Error(ErrorKind::input,
                format("{}: found the label {}, but the model learns or has learnt {} classes, 0 to {}", place,
                       tars.classes - 1, classes.size(), classes.size() - 1));
  }
  Photos photos{.source = std::move(tars.source),
                .classes = classes.empty() ? numbered_classes(tars.classes) : classes,
                .warning = std::move(tars.dotted_labels_problem)};
  photos.fingerprint = format("{} images, tar files {}", photos.source->size(), tars.checksums);
  return completed(std::move(photos), format("shards {}", place),
                   format(" in {} tar files{}", tars.tars, passed_over(tars.ignored)));
}

/// Whether a folder holds photos itself, not in folders of its own; one that cannot be listed does not.
bool holds_photos(const fs::path& folder) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (has_image_name(entry->path())) return true;
  }
  return false;
}

bool is_part(const fs::path& folder) {
  std::error_code ignored;
  return fs::is_directory(folder, ignored) && !holds_photos(folder);
}

bool has_folder_of_photos(const fs::path& folder) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    std::error_code ignored;
    if (entry->is_directory(ignored) && holds_photos(entry->path())) return true;
  }
  return false;
}

}  // namespace

PhotoForm photo_form(const std::string& place) {
  std::error_code ignored;
  if (fs::exists(place, ignored) && !fs::is_directory(place, ignored)) return PhotoForm::tar_files;
  if (!fs::exists(place, ignored))
    return expand_pattern(place) == std::vector{place} ? PhotoForm::image_folder : PhotoForm::tar_files;
  if (fs::exists(fs::path(place) / kShardManifest, ignored)) return PhotoForm::shards;
  return holds_tars(place) && !has_folder_of_photos(place) ? PhotoForm::tar_files : PhotoForm::image_folder;
}

std::vector<std::string> PartFolders::all() const {
  return eval.empty() || eval == train ? std::vector{train} : std::vector{train, eval};
}

PartFolders part_folders(const std::string& path) {
  const fs::path folder = (fs::path(path) / "").parent_path();  // without a slash at the end
  if (!is_part(folder / "train")) return {folder.string(), folder.string()};
  for (const char* name : {"val", "valid", "validation", "test"}) {
    if (is_part(folder / name)) return {(folder / "train").string(), (folder / name).string()};
  }
  return {(folder / "train").string(), ""};
}

std::string part_folder(const std::string& path, Part part) {
  const PartFolders folders = part_folders(path);
  const std::string& folder = part == Part::train ? folders.train : folders.eval;
  if (!folder.empty()) return folder;
  throw Error(ErrorKind::input, format("{}: found the folder train but none of val, valid, validation and test; name "
                                       "the folder of the evaluation images in data.eval",
                                       path));
}

Photos open_photos(const std::string& place, PhotoForm form, const std::vector<std::string>& classes,
                   std::string_view listing) {
  switch (form) {
    case PhotoForm::image_folder:
      return open_listed(place, classes, listing);
    case PhotoForm::shards:
      return open_packed_shards(place, classes);
    case PhotoForm::tar_files:
      break;
  }
  return open_tar_files(place, classes, listing);
}

Photos split_part(Photos photos, double share, Part part) {
  std::vector<std::vector<std::pair<std::uint64_t, std::uint32_t>>> by_class(photos.classes.size());
  for (std::uint32_t index = 0; index < photos.source->size(); ++index) {
    by_class[static_cast<std::size_t>(photos.source->label(index))].emplace_back(
        hash_of_file_name(*photos.source, index), index);
  }
  std::vector<std::uint32_t> indices;
  for (auto& images : by_class) {
    std::ranges::sort(images);
    const auto all = static_cast<std::ptrdiff_t>(images.size());
    const auto wanted = static_cast<std::ptrdiff_t>(std::llround(share * static_cast<double>(all)));
    const auto border =
        images.begin() + std::max<std::ptrdiff_t>(std::min(std::max<std::ptrdiff_t>(wanted, 1), all - 1), 0);
    const bool is_training = part == Part::train;
    for (auto image = is_training ? border : images.begin(); image != (is_training ? images.end() : border); ++image) {
      indices.push_back(image->second);
    }
  }
  std::ranges::sort(indices);
  const char* use = part == Part::train ? "training" : "evaluation";
  if (indices.empty()) {
    throw Error(ErrorKind::input,
                format("data.split: {} of {} images leaves none for {}: at least one class needs two images", share,
                       photos.source->size(), use));
  }
  photos.source = std::make_unique<Subset>(std::move(photos.source), std::move(indices));
  photos.class_counts = count_classes(*photos.source, photos.classes.size());
  photos.summary += format("; {} of them for {}", photos.source->size(), use);
  photos.fingerprint += format(", of these {} of a split at {}", use, share);
  return photos;
}

std::vector<std::string> photo_classes(const std::string& place, PhotoForm form) {
  if (form == PhotoForm::image_folder) return list_classes(place);
  return form == PhotoForm::shards ? read_shard_manifest(place).classes : open_tar_files(place, {}, {}).classes;
}

}  // namespace dcs3gd::data
