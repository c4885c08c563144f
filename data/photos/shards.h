#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/files.h"
#include "data/photos/photo_source.h"

/// Image files packed into few large ones, so that a cluster's file system serves some hundred files instead of a
/// million. A folder of shards holds
///
///   shards.txt         the manifest, written last: "dcs3gd-shards 1", a line "class NAME" for each class in the order
///                      of the labels, and a line "shard FILE IMAGES" for each shard in the order of the images; "made
///                      WORDS" if the images are not the files as they were
///   shard-00000.bin …  "dcs3gds1", the image files, one after the other, then
///                      records  offset, checksum (XXH3) of the file; 32 bits: bytes, label
///                      names    "class/image", each ended by a zero
///                      trailer  offset of the records, number of images, bytes of names, checksum of records and
///                               names, source_hash, "dcs3gds1"
///
/// Numbers are 64-bit little endian but for those named. The images stand in the order of the image folder they came
/// from, so training on either is the same.
namespace dcs3gd::data {

constexpr const char* kShardManifest = "shards.txt";

struct ShardRecord {
  std::uint64_t offset = 0;
  std::uint64_t checksum = 0;  ///< 0 in files that have none
  std::uint32_t bytes = 0;
  std::int32_t label = 0;
};

struct ShardIndex {
  std::vector<ShardRecord> records;
  std::string names;              ///< one for each record, each ended by a zero: for messages, so memory comes first
  std::uint64_t source_hash = 0;  ///< of the files and settings that the shard was made from
};

/// A file in which images lie one after the other, as it was when its index was read.
struct PackedFile {
  PackedFile(const PositionedFile& file, ShardIndex its_index, bool checksums);

  /// Of an image, as a C string.
  const char* name(std::size_t number) const;

  std::string path;
  std::uint64_t bytes = 0;
  std::int64_t modified_ns = 0;
  std::uint64_t identity = 0;  ///< of its name and size
  ShardIndex index;
  std::vector<std::size_t> name_marks;  ///< where every 64th name begins
  bool has_checksums = true;
};

struct ShardManifest {
  struct Shard {
    std::string file;
    std::uint64_t images = 0;
  };

  std::vector<std::string> classes;
  std::vector<Shard> shards;
  std::string provenance;  ///< how the images were made, on one line; empty: the files as they were
};

/// The bytes before the first image.
std::string shard_header();
/// The bytes after the last image, which ends at `offset`.
std::string shard_footer(const ShardIndex& index, std::uint64_t offset);
/// Throws Error{input} if the file is damaged or no shard.
ShardIndex read_shard_index(const std::string& path);
/// Reads, from a file that ends as shards do, the index of images in another file of `data_bytes` bytes. Throws
/// Error{input}.
ShardIndex read_index_of(const std::string& path, std::uint64_t data_bytes);
/// The index in a footer, all of it in memory, of images in a file of `data_bytes` bytes. Throws Error{input} naming
/// `path`.
ShardIndex index_from_footer(const std::string& path, std::string_view footer, std::uint64_t data_bytes);
/// The checksum of the records and names.
std::uint64_t index_checksum(const ShardIndex& index);

std::string to_text(const ShardManifest& manifest);
/// Throws Error{input} if `folder` holds no manifest or a damaged one.
ShardManifest read_shard_manifest(const std::string& folder);

/// The images of a folder of shards.
struct ShardPhotos {
  std::unique_ptr<const PhotoSource> source;
  std::string checksums;  ///< of the indices: equal for equal images in equal order
};

/// Reads and checks every index; the images are checked when they are fetched. Throws Error{input} for what is wrong.
ShardPhotos open_shards(const std::string& folder, const ShardManifest& manifest);

/// The images of files in this order; `origin` is for messages. Files are opened when they are read, and as many stay
/// open as a share of the process' limit allows. Throws Error{input} if there is no image.
std::unique_ptr<const PhotoSource> open_packed(const std::string& origin, std::vector<PackedFile> files);

}  // namespace dcs3gd::data
