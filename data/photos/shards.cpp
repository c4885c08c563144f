#include "data/photos/shards.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "core/format.h"
#include "core/hash.h"
#include "data/photos/image_decoder.h"

namespace dcs3gd::data {
namespace {

constexpr std::string_view kMagic = "dcs3gds1";
constexpr std::string_view kManifestTitle = "dcs3gd-shards 1";

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

/// `data_bytes`: how far images may reach; none: up to the index.
ShardIndex read_index(const PositionedFile& file, std::optional<std::uint64_t> data_bytes = {}) {
  const Trailer trailer = read_trailer(file);
  const std::uint64_t room = data_bytes.value_or(trailer.records_offset);
  const std::size_t record_bytes = trailer.images * sizeof(ShardRecord);
  std::string text(record_bytes + trailer.names_bytes, '\0');
  read_part(file, trailer.records_offset, std::as_writable_bytes(std::span(text)));
  if (checksum_of(text) != trailer.checksum) refuse(file.path(), "the checksum of its index is wrong");

  ShardIndex index{
      .records = std::vector<ShardRecord>(trailer.images), .names = {}, .source_hash = trailer.source_hash};
  if (record_bytes > 0) std::memcpy(index.records.data(), text.data(), record_bytes);
  for (const ShardRecord& record : index.records) {
    if (record.offset > room || record.bytes > room - record.offset || record.label < 0) {
      refuse(file.path(), "a record of its index does not fit the file");
    }
  }
  for (std::size_t begin = record_bytes; begin < text.size(); begin += index.names.back().size() + 1) {
    index.names.emplace_back(text.c_str() + begin);
  }
  const bool ends_with_name = trailer.names_bytes == 0 || text.back() == '\0';
  if (!ends_with_name || index.names.size() != index.records.size()) {
    refuse(file.path(), "the names in its index are damaged");
  }
  return index;
}

std::string shard_path(const std::string& folder, const ShardManifest::Shard& shard) {
  return (std::filesystem::path(folder) / shard.file).string();
}

/// The records and names of an index as a file has them.
std::string index_text(const ShardIndex& index) {
  std::string text(bytes_of(index.records.data(), index.records.size()));
  for (const std::string& name : index.names) text += name + '\0';
  return text;
}

class PackedFiles final : public PhotoSource {
 public:
  PackedFiles(const std::string& origin, std::vector<PackedFile> files) : files_(std::move(files)) {
    std::uint64_t total = 0;
    for (const PackedFile& file : files_) {
      firsts_.push_back(total);
      total += file.index.records.size();
    }
    if (total == 0 || total > std::numeric_limits<std::uint32_t>::max()) refuse(origin, "no images, or too many");
    size_ = static_cast<std::uint32_t>(total);
  }

  std::uint32_t size() const override { return size_; }
  std::int32_t label(std::uint32_t index) const override { return place_of(index).record().label; }
  std::uint64_t bytes(std::uint32_t index) const override { return place_of(index).record().bytes; }
  std::string name(std::uint32_t index) const override {
    const Place place = place_of(index);
    return format("{}: {}", place.in.file.path(), place.in.index.names[place.number]);
  }
  std::string fetch(std::uint32_t index, std::vector<std::uint8_t>& file) const override {
    const Place place = place_of(index);
    const ShardRecord& record = place.record();
    if (record.bytes > kMaxDecoderBytes) return "the file is too large";
    file.resize(record.bytes);
    std::string problem = place.in.file.try_read(record.offset, std::as_writable_bytes(std::span(file)));
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

  Place place_of(std::uint32_t index) const {
    const auto next = std::ranges::upper_bound(firsts_, std::uint64_t{index});
    const auto file = static_cast<std::size_t>(next - firsts_.begin() - 1);
    return {files_[file], static_cast<std::size_t>(index - firsts_[file])};
  }

  std::vector<PackedFile> files_;
  std::vector<std::uint64_t> firsts_;  ///< number of the first image of each file
  std::uint32_t size_ = 0;
};

}  // namespace

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
    PackedFile packed{.file = open_shard(shard_path(folder, shard)), .index = {}};
    packed.index = read_index(packed.file);
    if (packed.index.records.size() != shard.images)
      refuse(packed.file.path(), "not the shard that the manifest names");
    for (const ShardRecord& record : packed.index.records) {
      if (static_cast<std::size_t>(record.label) >= manifest.classes.size()) {
        refuse(packed.file.path(), "a label without a class");
      }
    }
    hashes += hash_text(index_checksum(packed.index));
    files.push_back(std::move(packed));
  }
  return {.source = open_packed(folder, std::move(files)), .checksums = hash_text(hashes)};
}

std::unique_ptr<const PhotoSource> open_packed(const std::string& origin, std::vector<PackedFile> files) {
  return std::make_unique<PackedFiles>(origin, std::move(files));
}

}  // namespace dcs3gd::data
