#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/files.h"
#include "data/photos/shards.h"

/// Tar files in WebDataset's form. A file's name is KEY.EXTENSION, split at the first dot after the last slash; files
/// of one KEY that follow each other are a sample. Of a sample count its image (.jpg, .jpeg or .png, in any case) and
/// its label (.cls, a decimal number); other files are passed over. Archives that were put together with cat are read
/// on, as by tar -i.
namespace dcs3gd::data {

struct TarSamples {
  ShardIndex index;           ///< of the images; no checksums and no source_hash
  std::uint64_t ignored = 0;  ///< files passed over, links too
  /// Labels among them whose names have more dots than the one before the extension: "a.v2.cls" is the file "v2.cls" of
  /// the sample "a", not the label of "a.v2".
  std::uint64_t dotted_labels = 0;
  std::string first_dotted_label;
};

/// Labels are below this.
constexpr std::int32_t kMaxTarClasses = 1'000'000;

/// Walks over the headers and reads the labels, nothing else. Understands ustar, the long names and large sizes of GNU
/// tar, and pax headers. Every number is checked against the file's size before it is used. Throws Error{input} with
/// the offset for what is damaged or cut off, no sample, or of a kind that is not read (sparse files, several volumes).
/// `on_member` is called at each header.
TarSamples index_tar(
    const PositionedFile& tar, const std::function<void()>& on_member = [] {});

struct TarImage {
  std::string name;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

/// The images in any tar file, without labels and whatever else is in it, in its order. Throws as index_tar() does.
std::vector<TarImage> images_in_tar(const PositionedFile& tar);

/// The rule that such labels break, for messages; empty if there are none.
std::string dotted_labels_problem(const TarSamples& samples);

}  // namespace dcs3gd::data
