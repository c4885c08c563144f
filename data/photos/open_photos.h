#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/options.h"
#include "data/photos/photo_source.h"

namespace dcs3gd::data {

/// The forms of a folder of photos: a folder of files for each class (`data.format: image_folder`), or few large files
/// (`data.format: shards`, which stands for two forms: those that dcs3gd-data prepare makes, and WebDataset's tar
/// files).
enum class PhotoForm { image_folder, shards, tar_files };

/// Tells the forms apart by the names in the folder. Only this function does.
PhotoForm photo_form(const std::string& folder);

/// The folder of one part below `path`: if it holds both `train` and `val`, the one of the two; else itself.
std::string part_folder(const std::string& path, Part part);

/// An open folder of photos, of any form.
struct Photos {
  std::unique_ptr<const PhotoSource> source;
  std::vector<std::string> classes;         ///< by label
  std::vector<std::uint32_t> class_counts;  ///< images, by label
  std::string summary;                      ///< "image_folder FOLDER: 144 images of 6 classes (…)"
  std::string fingerprint;                  ///< equal for equal files in equal order
  std::string provenance;                   ///< how the files were made; empty: they are as they were
};

/// Opens a folder. The classes of an image folder or of tar files are `classes`, or its own if that is empty; tar files
/// have labels without names, so theirs are "0", "1", …. The files of an image folder are those of `listing`
/// (data/photos/image_folder.h), or listed now if that is empty. Throws Error{input} for what is wrong.
Photos open_photos(const std::string& folder, const std::vector<std::string>& classes = {},
                   std::string_view listing = {});

/// The names of the classes at `folder`, by label, where its images are not needed. Of tar files this opens all.
std::vector<std::string> photo_classes(const std::string& folder);

}  // namespace dcs3gd::data
