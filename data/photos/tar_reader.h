#pragma once

#include <cstdint>

#include "core/files.h"
#include "data/photos/shards.h"

/// Tar files in WebDataset's form. A file's name is KEY.EXTENSION, split at the first dot after the last slash; files
/// of one KEY that follow each other are a sample. Of a sample count its image (.jpg, .jpeg or .png, in any case) and
/// its label (.cls, a decimal number); other files are passed over.
namespace dcs3gd::data {

struct TarSamples {
  ShardIndex index;           ///< of the images; no checksums and no source_hash
  std::uint64_t ignored = 0;  ///< files passed over, links too
};

/// Labels are below this.
constexpr std::int32_t kMaxTarClasses = 1'000'000;

/// Walks over the headers and reads the labels, nothing else. Understands ustar, the long names and large sizes of GNU
/// tar, and pax headers. Every number is checked against the file's size before it is used. Throws Error{input} with
/// the offset for what is damaged or cut off, no sample, or of a kind that is not read (sparse files, several volumes).
TarSamples index_tar(const PositionedFile& tar);

}  // namespace dcs3gd::data
