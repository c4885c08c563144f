#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

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
  std::optional<std::uint64_t> identity(std::uint32_t index) const override { return source_->identity(index); }
  ReadResult read(std::uint32_t index, const CropRule& crop_rule, ReadBuffers& buffers,
                  std::span<std::uint8_t> pixels) const override;

 private:
  std::unique_ptr<const PhotoSource> source_;
};

/// `data.format: image_folder`, and `shards`: shards or tar files. A label means the class of that place in
/// OpenRequest::class_names, or, where those are not known, in the training part; evaluation images whose classes
/// nobody knows are refused unless there are as many as the model has. Throws Error{input} for what is wrong.
std::shared_ptr<const Dataset> open_photo_dataset(const OpenRequest& request);

// The files of an image folder, and what tar files without an index hold, can be listed once, for all machines that see
// them, and for as long as files_state() stays what it was; OpenRequest::listing takes the text.

/// Lists the files of a part; `class_names` as OpenRequest has them; `on_file` is called after each. Empty where there
/// is nothing to list. Throws Error{input}.
std::string list_files(const DataOptions& options, Part part, const std::vector<std::string>& class_names,
                       const std::function<void()>& on_file);
/// The state of the part's folder (data/photos/folder_state.h); that of no folder if a listing is not worth keeping.
/// Throws Error{input}.
FolderState files_state(const DataOptions& options, Part part, const std::vector<std::string>& class_names);
/// Whether a listing may be kept: that state notices every change.
bool may_be_kept(const DataOptions& options, std::string_view listing);
/// Compares a few files with the listing. Returns the first difference, empty if there is none.
std::string listing_problem(const DataOptions& options, Part part, std::string_view listing);

}  // namespace dcs3gd::data
