#include "app/photos/prepare_shards.h"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <vector>

#include "app/job/parallel_tasks.h"
#include "app/photos/task_progress.h"
#include "core/error.h"
#include "core/files.h"
#include "core/format.h"
#include "core/hash.h"
#include "core/log.h"
#include "data/photos/image_decoder.h"
#include "data/photos/image_encoder.h"
#include "data/photos/open_photos.h"
#include "data/photos/shards.h"
#include "data/transform/resample.h"

namespace dcs3gd::app {
namespace {

namespace fs = std::filesystem;

/// The images first … end − 1 of the listing.
struct ShardPlan {
  std::uint32_t first = 0;
  std::uint32_t end = 0;
};

std::vector<ShardPlan> plan_shards(const data::PhotoSource& source, std::uint64_t shard_bytes) {
  std::vector<ShardPlan> shards;
  std::uint64_t bytes = 0;
  for (std::uint32_t index = 0; index < source.size(); ++index) {
    if (bytes == 0) shards.push_back({.first = index, .end = index});
    bytes += std::max<std::uint64_t>(source.bytes(index), 1);
    shards.back().end = index + 1;
    if (bytes >= shard_bytes) bytes = 0;
  }
  return shards;
}

/// Packs one part of a data set.
class Packer {
 public:
  Packer(const std::string& input, std::string output, const std::vector<std::string>& classes,
         const PrepareOptions& options)
      : input_(input),
        output_(std::move(output)),
        threads_(options.threads),
        photos_(data::open_photos(input, data::PhotoForm::image_folder, classes)),
        plan_(plan_shards(*photos_.source, options.shard_bytes)),
        max_side_(options.max_side),
        quality_(options.quality),
        source_hash_(
            hash_of(format("{}\nshards of {} bytes{}", photos_.fingerprint, options.shard_bytes, provenance()))) {
    for (const std::string& name : photos_.classes) {
      if (name.find('\n') == std::string::npos) continue;
      throw Error(ErrorKind::input, format("{}: the name of a class has a line break", input));
    }
  }

  const std::vector<std::string>& classes() const { return photos_.classes; }

  void pack() {
    log::info(photos_.summary);
    std::error_code error;
    fs::create_directories(output_, error);
    if (error) throw Error(ErrorKind::input, format("{}: cannot be made: {}", output_, error.message()));
    {
      TaskProgress progress("packing", photos_.source->size());
      run_tasks(plan_.size(), threads_, [&](std::uint64_t number) {
        if (!is_packed(number)) pack_shard(number);
        progress.add(plan_[number].end - plan_[number].first);
      });
    }
    write_file_atomically((fs::path(output_) / data::kShardManifest).string(), data::to_text(manifest()));
    log::info(format("{}: {} images in {} shards, {} of them there before", output_, photos_.source->size(),
                     plan_.size(), kept_.load()));
  }

 private:
  static std::uint64_t hash_of(const std::string& text) { return hash_bytes(std::as_bytes(std::span(text))); }

  /// For the manifest.
  std::string provenance() const {
    if (!max_side_) return "";
    return format("longer side at most {} pixels, larger images as JPEG of quality {}", *max_side_, quality_);
  }

  static std::string file_name(std::uint64_t number) { return format("shard-{:05}.bin", number); }
  std::string path(std::uint64_t number) const { return (fs::path(output_) / file_name(number)).string(); }

  data::ShardManifest manifest() const {
    data::ShardManifest manifest{.classes = photos_.classes, .shards = {}, .provenance = provenance()};
    for (std::uint64_t number = 0; number < plan_.size(); ++number) {
      manifest.shards.push_back({file_name(number), plan_[number].end - plan_[number].first});
    }
    return manifest;
  }

  bool is_packed(std::uint64_t number) {
    std::error_code ignored;
    if (!fs::exists(path(number), ignored)) return false;
    if (data::read_shard_index(path(number)).source_hash != source_hash_) {
      throw Error(ErrorKind::input, format("{}: was made from other files or with another --shard-mb, --max-side or "
                                           "--quality; choose another folder, or remove the old shards",
                                           path(number)));
    }
    ++kept_;
    return true;
  }

  void pack_shard(std::uint64_t number) const {
    AtomicFile file(path(number));
    file.write(data::shard_header());
    std::uint64_t offset = data::shard_header().size();
    data::ShardIndex index{.records = {}, .names = {}, .source_hash = source_hash_};
    std::vector<std::uint8_t> bytes;
    for (std::uint32_t image = plan_[number].first; image < plan_[number].end; ++image) {
      const std::string name = photos_.source->name(image);
      if (const std::string problem = photos_.source->fetch(image, bytes); !problem.empty()) {
        throw Error(ErrorKind::input, format("{}: {}", name, problem));
      }
      if (max_side_) shrink(name, bytes);
      const auto content = std::as_bytes(std::span(bytes));
      file.write(content);
      index.records.push_back({.offset = offset,
                               .checksum = hash_bytes(content),
                               .bytes = static_cast<std::uint32_t>(bytes.size()),
                               .label = photos_.source->label(image)});
      index.names += fs::path(name).lexically_relative(input_).string() + '\0';
      offset += bytes.size();
    }
    file.write(data::shard_footer(index, offset));
    file.commit();
  }

  /// An image larger than allowed becomes a JPEG of the size allowed.
  void shrink(const std::string& name, std::vector<std::uint8_t>& file) const {
    data::ImageSize size;
    std::string problem = data::read_image_size(file, size);
    if (problem.empty() && std::max(size.width, size.height) <= *max_side_) return;
    data::DecodedImage image;
    if (problem.empty()) problem = data::decode_image(file, data::CropRule::within(*max_side_), image);
    if (!problem.empty()) {
      log::warn(format("{}: {}; packed as it is", name, problem));
      return;
    }
    const data::ImageSize scaled = image.crop.scaled;
    std::vector<std::uint8_t> planes(std::size_t{3} * static_cast<std::size_t>(scaled.width) *
                                     static_cast<std::size_t>(scaled.height));
    data::resample(image, 3, planes);
    file = data::encode_jpeg(scaled, planes, quality_);
  }

  std::string input_;
  std::string output_;
  int threads_;
  data::Photos photos_;
  std::vector<ShardPlan> plan_;
  std::optional<int> max_side_;
  int quality_;
  std::uint64_t source_hash_;
  std::atomic<int> kept_ = 0;
};

/// Shards among the images that they are made from would make the folder one of another kind.
void refuse_within(const std::string& output, const std::string& input) {
  const fs::path inside =
      fs::weakly_canonical(fs::absolute(output)).lexically_relative(fs::weakly_canonical(fs::absolute(input)));
  if (inside.empty() || *inside.begin() == "..") return;
  throw Error(ErrorKind::input,
              format("{}: the shards would lie in the folder of their images, {}; choose a folder outside of it",
                     output, input));
}

}  // namespace

void prepare_shards(const PrepareOptions& options) {
  const data::PartFolders folders = data::part_folders(options.input);
  for (const std::string& folder : folders.all()) {
    if (data::photo_form(folder) == data::PhotoForm::image_folder) continue;
    throw Error(ErrorKind::input, format("{}: expected folders of images, found shards or tar files", folder));
  }
  refuse_within(options.output, options.input);
  const bool has_parts = folders.eval != folders.train;
  Packer packer(folders.train, has_parts ? (fs::path(options.output) / "train").string() : options.output, {}, options);
  packer.pack();
  if (folders.all().size() < 2) return;
  Packer(folders.eval, (fs::path(options.output) / "val").string(), packer.classes(), options).pack();
}

}  // namespace dcs3gd::app
