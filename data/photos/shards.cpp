#include "data/photos/shards.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <list>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "core/error.h"
#include "core/format.h"
#include "core/hash.h"
#include "data/photos/image_decoder.h"

namespace dcs3gd::data {
namespace {

constexpr std::string_view kMagic = "dcs3gds1";
constexpr std::string_view kManifestTitle = "dcs3gd-shards 1";
constexpr std::size_t kNamesAMark = 64;

struct Trailer {
  std::uint64_t records_offset = 0;
  std::uint64_t images = 0;
  std::uint64_t names_bytes = 0;
  std::uint64_t checksum = 0;
  std::uint64_t source_hash = 0;
  std::array<char, 8> magic{};
};
static_assert(sizeof(Trailer) == 48 && sizeof(ShardRecord) == 24);

[[noreturn]] void refuse(const std::string& path, std::string_view what) {
  const bool is_index = path.ends_with(".index");
  throw Error(ErrorKind::input, format("{}: {}; make {} anew with dcs3gd-data {}", path, what,
                                       is_index ? "it" : "the shards", is_index ? "index" : "prepare"));
}

std::uint64_t checksum_of(std::string_view bytes) { return hash_bytes(std::as_bytes(std::span(bytes))); }

template <typename T>
std::string_view bytes_of(const T* values, std::size_t count) {
  return {reinterpret_cast<const char*>(values), count * sizeof(T)};
}

void read_part(const PositionedFile& file, std::uint64_t offset, std::span<std::byte> into) {
  const std::string problem = file.try_read(offset, into);
  if (!problem.empty()) refuse(file.path(), problem);
}

PositionedFile open_shard(const std::string& path) {
  PositionedFile file(path);
  if (!file.problem().empty()) refuse(path, file.problem());
  return file;
}

Trailer read_trailer(const PositionedFile& file) {
  Trailer trailer;
  if (file.size() < kMagic.size() + sizeof(Trailer)) refuse(file.path(), "too short for a shard");
  read_part(file, file.size() - sizeof(Trailer), std::as_writable_bytes(std::span(&trailer, 1)));
  if (std::string_view(trailer.magic.data(), trailer.magic.size()) != kMagic) {
    refuse(file.path(), "no shard, or cut off");
  }
  const std::uint64_t room = file.size() - sizeof(Trailer);
  const bool fits = trailer.records_offset >= kMagic.size() && trailer.records_offset <= room &&
                    trailer.images <= (room - trailer.records_offset) / sizeof(ShardRecord) &&
                    trailer.names_bytes == room - trailer.records_offset - trailer.images * sizeof(ShardRecord);
  if (!fits) refuse(file.path(), "the sizes in its trailer do not fit the file");
  return trailer;
}

/// The index in its records and names; `room`: how far images may reach.
ShardIndex parse_index(const std::string& path, std::string_view text, const Trailer& trailer, std::uint64_t room) {
  if (checksum_of(text) != trailer.checksum) refuse(path, "the checksum of its index is wrong");
  const std::size_t record_bytes = trailer.images * sizeof(ShardRecord);
  ShardIndex index{.records = std::vector<ShardRecord>(trailer.images),
                   .names = std::string(text.substr(record_bytes)),
                   .source_hash = trailer.source_hash};
  if (record_bytes > 0) std::memcpy(index.records.data(), text.data(), record_bytes);
  for (const ShardRecord& record : index.records) {
    if (record.offset > room || record.bytes > room - record.offset || record.label < 0) {
      refuse(path, "a record of its index does not fit the file");
    }
  }
  const bool ends_with_name = index.names.empty() || index.names.back() == '\0';
  const auto names = static_cast<std::size_t>(std::ranges::count(index.names, '\0'));
  if (!ends_with_name || names != index.records.size()) refuse(path, "the names in its index are damaged");
  return index;
}

/// `data_bytes`: how far images may reach; none: up to the index.
ShardIndex read_index(const PositionedFile& file, std::optional<std::uint64_t> data_bytes = {}) {
  const Trailer trailer = read_trailer(file);
  std::string text(trailer.images * sizeof(ShardRecord) + trailer.names_bytes, '\0');
  read_part(file, trailer.records_offset, std::as_writable_bytes(std::span(text)));
  return parse_index(file.path(), text, trailer, data_bytes.value_or(trailer.records_offset));
}

std::string shard_path(const std::string& folder, const ShardManifest::Shard& shard) {
  return (std::filesystem::path(folder) / shard.file).string();
}

/// The records and names of an index as a file has them.
std::string index_text(const ShardIndex& index) {
  return std::string(bytes_of(index.records.data(), index.records.size())) + index.names;
}

/// Open files, those used last; their number is a share of what the process may have open, for there are other parts of
/// the data set, and libraries. A file that was closed is opened again and must be the one it was.
class OpenFiles {
 public:
  using File = std::shared_ptr<const PositionedFile>;

  /// None, and what is wrong in `problem`, if the file cannot be opened or is another one now.
  File open(const PackedFile& file, std::string& problem) {
    {
      const std::lock_guard lock(mutex_);
      if (const auto found = places_.find(&file); found != places_.end()) {
        files_.splice(files_.begin(), files_, found->second);
        return files_.front().second;
      }
    }
    auto opened = std::make_shared<const PositionedFile>(file.path, PositionedFile::IfMissing::wait);
    problem = opened->problem();
    if (problem.empty() && opened->size() != file.bytes) {
      problem = format("the file has {} bytes, {} when the program started", opened->size(), file.bytes);
    } else if (problem.empty() && !file.has_checksums && opened->modified_ns() != file.modified_ns) {
      problem = "the file was changed since the program started";
    }
    if (!problem.empty()) return nullptr;
    const std::lock_guard lock(mutex_);
    if (places_.contains(&file)) return opened;  // another thread was faster
    files_.emplace_front(&file, opened);
    places_[&file] = files_.begin();
    if (files_.size() > most_) remove(std::prev(files_.end()));
    return opened;
  }
  void close(const PackedFile& file) {
    const std::lock_guard lock(mutex_);
    if (const auto found = places_.find(&file); found != places_.end()) remove(found->second);
  }

 private:
  using Place = std::list<std::pair<const PackedFile*, File>>::iterator;

  /// REQUIRES mutex_.
  void remove(Place place) {
    places_.erase(place->first);
    files_.erase(place);
  }

  static constexpr std::uint64_t kShareOfLimit = 8;
  static constexpr std::uint64_t kMost = 4096;

  const std::size_t most_ = std::clamp<std::uint64_t>(descriptor_limit() / kShareOfLimit, 1, kMost);
  std::mutex mutex_;
  std::list<std::pair<const PackedFile*, File>> files_;  ///< the one used last first
  std::unordered_map<const PackedFile*, Place> places_;
};

class PackedFiles final : public PhotoSource {
 public:
  PackedFiles(const std::string& origin, std::vector<PackedFile> files) : files_(std::move(files)) {
    std::uint64_t total = 0;
    for (const PackedFile& file : files_) {
      firsts_.push_back(total);
      total += file.index.records.size();
    }
    if (total == 0 || total > std::numeric_limits<std::uint32_t>::max()) {
      throw Error(ErrorKind::input, format("{}: {}", origin, total == 0 ? "no images in it" : "too many images"));
    }
    size_ = static_cast<std::uint32_t>(total);
  }

  std::uint32_t size() const override { return size_; }
  std::int32_t label(std::uint32_t index) const override { return place_of(index).record().label; }
  std::uint64_t bytes(std::uint32_t index) const override { return place_of(index).record().bytes; }
  std::string name(std::uint32_t index) const override {
    const Place place = place_of(index);
    return format("{}: {}", place.in.path, place.in.name(place.number));
  }
  std::uint64_t identity(std::uint32_t index) const override {
    const Place place = place_of(index);
    const ShardRecord& record = place.record();
    // Without checksums by their place: in a copy of the file it is the same.
    return place.in.has_checksums ? record.checksum : place.in.identity + record.offset;
  }
  std::string fetch(std::uint32_t index, std::vector<std::uint8_t>& file) const override {
    const Place place = place_of(index);
    const ShardRecord& record = place.record();
    if (record.bytes > kMaxDecoderBytes) return "the file is too large";
    file.resize(record.bytes);
    std::string problem = read(place.in, record.offset, std::as_writable_bytes(std::span(file)));
    if (problem.empty() && place.in.has_checksums && hash_bytes(std::as_bytes(std::span(file))) != record.checksum) {
      problem = "its checksum is wrong";
    }
    return problem;
  }

 private:
  struct Place {
    const PackedFile& in;
    std::size_t number;
    const ShardRecord& record() const { return in.index.records[number]; }
  };

  /// Once more with the file opened anew if that fails: a network file system may have lost it in between.
  std::string read(const PackedFile& in, std::uint64_t offset, std::span<std::byte> into) const {
    std::string problem;
    for (int attempt = 0; attempt < 2; ++attempt) {
      const OpenFiles::File file = open_files_.open(in, problem);
      if (file == nullptr) break;
      problem = file->try_read(offset, into);
      if (problem.empty()) break;
      open_files_.close(in);
    }
    return problem;
  }

  Place place_of(std::uint32_t index) const {
    const auto next = std::ranges::upper_bound(firsts_, std::uint64_t{index});
    const auto file = static_cast<std::size_t>(next - firsts_.begin() - 1);
    return {files_[file], static_cast<std::size_t>(index - firsts_[file])};
  }

  std::vector<PackedFile> files_;
  mutable OpenFiles open_files_;
  std::vector<std::uint64_t> firsts_;  ///< number of the first image of each file
  std::uint32_t size_ = 0;
};

}  // namespace

PackedFile::PackedFile(const PositionedFile& file, ShardIndex its_index, bool checksums)
    : path(file.path()),
      bytes(file.size()),
      modified_ns(file.modified_ns()),
      identity(checksum_of(format("{} {}", std::filesystem::path(path).filename().string(), bytes))),
      index(std::move(its_index)),
      has_checksums(checksums) {
  std::size_t begin = 0;
  for (std::size_t number = 0; number < index.records.size(); ++number) {
    if (number % kNamesAMark == 0) name_marks.push_back(begin);
    begin = index.names.find('\0', begin) + 1;
  }
}

const char* PackedFile::name(std::size_t number) const {
  std::size_t begin = name_marks[number / kNamesAMark];
  for (std::size_t i = 0; i < number % kNamesAMark; ++i) begin = index.names.find('\0', begin) + 1;
  return index.names.c_str() + begin;
}

std::string shard_header() { return std::string(kMagic); }

std::string shard_footer(const ShardIndex& index, std::uint64_t offset) {
  std::string footer = index_text(index);
  Trailer trailer{.records_offset = offset,
                  .images = index.records.size(),
                  .names_bytes = footer.size() - index.records.size() * sizeof(ShardRecord),
                  .checksum = checksum_of(footer),
                  .source_hash = index.source_hash};
  std::ranges::copy(kMagic, trailer.magic.begin());
  footer += bytes_of(&trailer, 1);
  return footer;
}

ShardIndex read_shard_index(const std::string& path) { return read_index(open_shard(path)); }

ShardIndex read_index_of(const std::string& path, std::uint64_t data_bytes) {
  return read_index(open_shard(path), data_bytes);
}

ShardIndex index_from_footer(const std::string& path, std::string_view footer, std::uint64_t data_bytes) {
  Trailer trailer;
  if (footer.size() < sizeof(Trailer)) refuse(path, "its index is cut off");
  const std::size_t text_bytes = footer.size() - sizeof(Trailer);
  std::memcpy(&trailer, footer.data() + text_bytes, sizeof(Trailer));
  const bool fits = trailer.images <= text_bytes / sizeof(ShardRecord) &&
                    trailer.names_bytes == text_bytes - trailer.images * sizeof(ShardRecord);
  if (!fits) refuse(path, "the sizes in its index do not fit");
  return parse_index(path, footer.substr(0, text_bytes), trailer, data_bytes);
}

std::uint64_t index_checksum(const ShardIndex& index) { return checksum_of(index_text(index)); }

std::string to_text(const ShardManifest& manifest) {
  std::string text = format("{}\n", kManifestTitle);
  if (!manifest.provenance.empty()) text += format("made {}\n", manifest.provenance);
  for (const std::string& name : manifest.classes) text += format("class {}\n", name);
  for (const ShardManifest::Shard& shard : manifest.shards) text += format("shard {} {}\n", shard.file, shard.images);
  return text;
}

ShardManifest read_shard_manifest(const std::string& folder) {
  const std::string path = (std::filesystem::path(folder) / kShardManifest).string();
  std::ifstream file(path);
  std::string line;
  if (!file) refuse(path, "expected the manifest of a folder of shards, found none that can be read");
  if (!std::getline(file, line) || line != kManifestTitle) refuse(path, "no manifest of shards of this version");
  ShardManifest manifest;
  while (std::getline(file, line)) {
    const std::size_t space = line.find(' ');
    const std::string word = line.substr(0, space);
    const std::string rest = space == std::string::npos ? "" : line.substr(space + 1);
    if (word == "class" && !rest.empty()) {
      manifest.classes.push_back(rest);
      continue;
    }
    if (word == "made" && !rest.empty()) {
      manifest.provenance = rest;
      continue;
    }
    const std::size_t last_space = rest.rfind(' ');
    std::uint64_t images = 0;
    const char* end = rest.data() + rest.size();
    const bool is_shard = word == "shard" && last_space != std::string::npos && last_space > 0 &&
                          rest.find('/') == std::string::npos &&
                          std::from_chars(rest.data() + last_space + 1, end, images).ptr == end;
    if (!is_shard) refuse(path, format("cannot understand the line \"{}\"", line));
    manifest.shards.push_back({rest.substr(0, last_space), images});
  }
  if (manifest.classes.empty() || manifest.shards.empty()) refuse(path, "no classes or no shards in it");
  return manifest;
}

ShardPhotos open_shards(const std::string& folder, const ShardManifest& manifest) {
  std::vector<PackedFile> files;
  std::string hashes;
  for (const ShardManifest::Shard& shard : manifest.shards) {
    const PositionedFile file = open_shard(shard_path(folder, shard));
    ShardIndex index = read_index(file);
    if (index.records.size() != shard.images) refuse(file.path(), "not the shard that the manifest names");
    for (const ShardRecord& record : index.records) {
      if (static_cast<std::size_t>(record.label) >= manifest.classes.size()) {
        refuse(file.path(), "a label without a class");
      }
    }
    hashes += hash_text(index_checksum(index));
    files.emplace_back(file, std::move(index), true);
  }
  return {.source = open_packed(folder, std::move(files)), .checksums = hash_text(hashes)};
}

std::unique_ptr<const PhotoSource> open_packed(const std::string& origin, std::vector<PackedFile> files) {
  return std::make_unique<PackedFiles>(origin, std::move(files));
}

}  // namespace dcs3gd::data
