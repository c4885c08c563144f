#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/dataset.h"

namespace dcs3gd::data {

/// Where the files of a photo data set are: in a folder, or packed into shards. fetch() may be called by several
/// threads at once.
class PhotoSource {
 public:
  PhotoSource() = default;
  PhotoSource(const PhotoSource&) = delete;
  PhotoSource& operator=(const PhotoSource&) = delete;
  virtual ~PhotoSource() = default;

  virtual std::uint32_t size() const = 0;
  virtual std::int32_t label(std::uint32_t index) const = 0;
  /// Of the encoded image, when the source was opened.
  virtual std::uint64_t bytes(std::uint32_t index) const = 0;
  /// For messages.
  virtual std::string name(std::uint32_t index) const = 0;
  /// Fills `file` with the bytes of the encoded image. Returns what is wrong with it, empty if nothing is; what is
  /// wrong with the machine is an Error{failure}.
  virtual std::string fetch(std::uint32_t index, std::vector<std::uint8_t>& file) const = 0;
};

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

/// A folder of photos, whatever holds them.
struct Photos {
  std::unique_ptr<const PhotoSource> source;
  std::vector<std::string> classes;         ///< by label
  std::vector<std::uint32_t> class_counts;  ///< images, by label
  std::string summary;                      ///< "image_folder FOLDER: 144 images of 6 classes (…)"
  std::string fingerprint;                  ///< equal for equal files in equal order
  std::string made;                         ///< how the files were made; empty: they are as they were
};

/// "144 images of 6 classes (cardboard 24, glass 24, …)"
std::string class_summary(const std::vector<std::string>& classes, const std::vector<std::uint32_t>& counts);

/// The folder of one part below `path`: if it holds both `train` and `val`, the one of the two; else itself.
std::string part_folder(const std::string& path, Part part);

/// Whether the folder holds shards: their manifest, or tar files.
bool holds_shards(const std::string& folder);

/// Opens an image folder or a folder of shards, told apart by holds_shards(). The classes of an image folder or of tar
/// files are `classes`, or its own if that is empty; tar files have labels without names, so theirs are "0", "1", ….
/// The files of an image folder are those of `listing` (data/image_folder.h), or listed now if that is empty.
/// Throws Error{input} for what is wrong.
Photos open_photos(const std::string& folder, const std::vector<std::string>& classes = {},
                   std::string_view listing = {});

/// The names of the classes at `folder`, by label.
std::vector<std::string> photo_classes(const std::string& folder);

}  // namespace dcs3gd::data
