#include "data/photos/tar_shards.h"

#include <algorithm>
#include <filesystem>
#include <span>
#include <utility>

#include "core/error.h"
#include "core/format.h"
#include "core/hash.h"
#include "core/log.h"
#include "data/photos/shards.h"

namespace dcs3gd::data {
namespace {

namespace fs = std::filesystem;

bool is_hidden(const fs::path& path) { return path.filename().native().starts_with('.'); }

std::uint64_t stamp_of(const PositionedFile& tar) {
  const std::string text = format("{} bytes of {} ns", tar.size(), tar.modified_ns());
  return hash_bytes(std::as_bytes(std::span(text)));
}

}  // namespace

bool holds_tars(const std::string& folder) {
  bool has_tar = false;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (is_hidden(entry->path())) continue;
    std::error_code ignored;
    if (entry->is_directory(ignored)) return false;
    has_tar = has_tar || entry->path().extension() == ".tar";
  }
  return has_tar && !error;
}

std::vector<std::string> list_tars(const std::string& folder) {
  std::vector<std::string> tars;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (!is_hidden(entry->path()) && entry->path().extension() == ".tar") tars.push_back(entry->path().string());
  }
  if (error) throw Error(ErrorKind::input, format("{}: cannot be listed: {}", folder, error.message()));
  if (tars.empty()) throw Error(ErrorKind::input, format("{}: expected tar files, found none", folder));
  std::ranges::sort(tars);
  return tars;
}

std::string tar_index_path(const std::string& tar) { return tar + ".index"; }

std::string tar_index_file(const PositionedFile& tar, const TarSamples& samples) {
  ShardIndex index = samples.index;
  index.source_hash = stamp_of(tar);
  std::string file = shard_header();
  file.append(reinterpret_cast<const char*>(&samples.ignored), sizeof(samples.ignored));
  return file + shard_footer(index, file.size());
}

std::string read_tar_index(const PositionedFile& tar, TarSamples& samples) {
  const std::string path = tar_index_path(tar.path());
  std::error_code error;
  if (!fs::exists(path, error)) return "there is no index";
  try {
    TarSamples read{.index = read_index_of(path, tar.size()), .ignored = 0};
    if (read.index.source_hash != stamp_of(tar)) return "the file has changed since its index was made";
    open_file(path).read(shard_header().size(), std::as_writable_bytes(std::span(&read.ignored, 1)));
    samples = std::move(read);
  } catch (const Error& damage) {
    if (damage.kind() != ErrorKind::input) throw;
    return damage.what();
  }
  return "";
}

TarPhotos open_tars(const std::string& folder) {
  TarPhotos photos;
  std::vector<PackedFile> files;
  std::string hashes;
  std::size_t walked = 0;
  std::string first_walked;
  for (const std::string& path : list_tars(folder)) {
    PositionedFile tar = open_file(path);
    TarSamples samples;
    if (const std::string reason = read_tar_index(tar, samples); !reason.empty()) {
      if (walked++ == 0) first_walked = format("{}: {}", path, reason);
      samples = index_tar(tar);
    }
    for (const ShardRecord& record : samples.index.records) {
      photos.classes = std::max(photos.classes, static_cast<std::size_t>(record.label) + 1);
    }
    photos.ignored += samples.ignored;
    hashes += format("{} {}\n", fs::path(path).filename().string(), hash_text(index_checksum(samples.index)));
    files.push_back({std::move(tar), std::move(samples.index), false});
  }
  if (walked > 0) {
    log::warn(
        format("{}; all headers of {} of {} tar files were read, which takes time at every start: dcs3gd-data "
               "index {} does it once",
               first_walked, walked, files.size(), folder));
  }
  photos.tars = files.size();
  photos.checksums = hash_text(hashes);
  photos.source = open_packed(folder, std::move(files));
  return photos;
}

}  // namespace dcs3gd::data
