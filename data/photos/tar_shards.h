#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/photos/photo_source.h"
#include "data/photos/tar_reader.h"

/// A folder of tar files in WebDataset's form (data/photos/tar_reader.h) as a data set. Beside NAME.tar may stand
/// NAME.tar.index, which says where its images lie:
///
///   "dcs3gds1", 64 bits: number of files passed over, then what follows the images in a shard
///   (data/photos/shards.h); source_hash is that of the tar file's size and time, so that a change is noticed
namespace dcs3gd::data {

/// Whether the folder holds tar files, and no folder that could be a class of photos.
bool holds_tars(const std::string& folder);

/// The paths of the tar files in the order of their names.
std::vector<std::string> list_tars(const std::string& folder);

std::string tar_index_path(const std::string& tar);
/// The content of the index file of an open tar file.
std::string tar_index_file(const PositionedFile& tar, const TarSamples& samples);
/// Fills `samples` from the index file beside the tar file. Returns why that cannot be used, empty if it was.
std::string read_tar_index(const PositionedFile& tar, TarSamples& samples);

struct TarPhotos {
  std::unique_ptr<const PhotoSource> source;
  std::size_t classes = 0;    ///< the largest label + 1
  std::uint64_t ignored = 0;  ///< files passed over
  std::size_t tars = 0;
  std::string checksums;  ///< of the indices: equal for equal names, sizes and labels in equal order
};

/// Opens every tar file of the folder. Those without an index of theirs are walked over, and a warning says so. Throws
/// Error{input} for what is wrong.
TarPhotos open_tars(const std::string& folder);

}  // namespace dcs3gd::data
