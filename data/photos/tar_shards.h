#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/photos/photo_source.h"
#include "data/photos/tar_reader.h"

/// Tar files in WebDataset's form (data/photos/tar_reader.h) as a data set. Beside NAME.tar may stand NAME.tar.index,
/// which says where its images lie:
///
///   "dcs3gds1", TarCounts, then what follows the images in a shard (data/photos/shards.h); source_hash is that of the
///   tar file's size and time, so that a change is noticed
///
/// A `place` is a folder that holds tar files, a tar file, or a pattern (data/paths.h) of such files.
namespace dcs3gd::data {

/// Whether a folder holds tar files.
bool holds_tars(const std::string& folder);

/// The paths of the tar files: of a folder and of wildcards in the order of their names, else in the pattern's. Throws
/// Error{input} if there is none.
std::vector<std::string> list_tars(const std::string& place);

std::string tar_index_path(const std::string& tar);
/// The content of the index file of an open tar file.
std::string tar_index_file(const PositionedFile& tar, const TarSamples& samples);
/// Fills `samples` from the index file beside the tar file. Returns why that cannot be used, empty if it was.
std::string read_tar_index(const PositionedFile& tar, TarSamples& samples);

/// What the tar files without an index of theirs hold, as text for other machines (open_tars()); empty if all have one.
/// All headers of such files are read, and a warning says so. `on_member` is called at each.
std::string walk_tars(const std::string& place, const std::function<void()>& on_member);

struct TarPhotos {
  std::unique_ptr<const PhotoSource> source;
  std::size_t classes = 0;    ///< the largest label + 1
  std::uint64_t ignored = 0;  ///< files passed over
  std::size_t tars = 0;
  std::string dotted_labels_problem;  ///< data/photos/tar_reader.h
  std::string checksums;              ///< of the indices: equal for equal names, sizes and labels in equal order
};

/// Opens every tar file. What those without an index hold says `walked`, of walk_tars(); those that are not in it are
/// walked over now. Throws Error{input} for what is wrong.
TarPhotos open_tars(const std::string& place, std::string_view walked = {});

}  // namespace dcs3gd::data
