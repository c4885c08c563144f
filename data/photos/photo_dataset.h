#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "data/dataset.h"
#include "data/photos/folder_state.h"
#include "data/photos/photo_source.h"
#include "data/transform/resample.h"

namespace dcs3gd::data {

/// Decodes a file and scales what `crop_rule` shows of it to bytes, CHW. `image` keeps its memory from call to call.
/// Returns what is wrong with the file, empty if nothing is.
std::string decode_photo(std::span<const std::uint8_t> file, const CropRule& crop_rule, int channels,
                         DecodedImage& image, std::span<std::uint8_t> pixels);

/// Photos of any size, decoded when they are read.
class PhotoDataset final : public Dataset {
 public:
  PhotoDataset(std::unique_ptr<const PhotoSource> source, DatasetProperties properties);

  std::string file(std::uint32_t index) const override { return source_->name(index); }
  ReadResult read(std::uint32_t index, const CropRule& crop_rule, ReadBuffers& buffers,
                  std::span<std::uint8_t> pixels) const override;

 private:
  std::unique_ptr<const PhotoSource> source_;
};

// Both parts have the classes of the training part: an evaluation part that lacks one must not shift labels. Both
// functions throw Error{input} for what is wrong.

/// `data.format: image_folder`.
std::shared_ptr<const Dataset> open_image_folder(const OpenRequest& request);
/// `data.format: shards`: shards or tar files.
std::shared_ptr<const Dataset> open_packed_photos(const OpenRequest& request);

// The files of an image folder can be listed once, for all machines that see it, and for as long as files_state() stays
// what it was; OpenRequest::listing takes the text.

/// Lists the files of a part; `on_file` is called after each. Throws Error{input}.
std::string list_files(const DataOptions& options, Part part, const std::function<void()>& on_file);
/// The state of the part's folder (data/photos/folder_state.h). Throws Error{input}.
FolderState files_state(const DataOptions& options, Part part);
/// Compares a few files with the listing. Returns the first difference, empty if there is none.
std::string listing_problem(const DataOptions& options, Part part, std::string_view listing);

}  // namespace dcs3gd::data
