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

/// Tells the forms apart by the names in the folder; what is no folder is a tar file or a pattern of some. Only this
/// function does. Tar files beside folders count where none of the folders holds photos.
PhotoForm photo_form(const std::string& place);

/// The folders of the two parts below `path`: `train`, and the first there is of `val`, `valid`, `validation` and
/// `test`, if `train` is there and no class of photos; else `path` itself for both. The second is empty if only `train`
/// is there.
struct PartFolders {
  std::string train;
  std::string eval;

  /// Each once.
  std::vector<std::string> all() const;
};
PartFolders part_folders(const std::string& path);
/// One of them. Throws Error{input} if there is none.
std::string part_folder(const std::string& path, Part part);

/// An open folder of photos, of any form.
struct Photos {
  std::unique_ptr<const PhotoSource> source;
  std::vector<std::string> classes;         ///< by label
  std::vector<std::uint32_t> class_counts;  ///< images, by label
  std::string summary;                      ///< "image_folder FOLDER: 144 images of 6 classes (…)"
  std::string fingerprint;                  ///< equal for equal files in equal order
  std::string provenance;                   ///< how the files were made; empty: they are as they were
  std::string warning;                      ///< what a user may not expect; empty: nothing
};

/// Opens photos of this form. `classes` say what a label means: the images of a class have its place there as their
/// label, and a class that is not there is refused; empty: the classes are those that are found. Tar files have labels
/// without names: places in `classes`, or else the classes "0", "1", …. `listing`: what data/photos/image_folder.h or
/// tar_shards.h make of the files; empty: they are listed now. Throws Error{input} for what is wrong.
Photos open_photos(const std::string& place, PhotoForm form, const std::vector<std::string>& classes = {},
                   std::string_view listing = {});

/// One of the two parts that this share divides photos into: of each class the share whose file names have the lowest
/// hashes are for evaluation, one at least and never all. So it depends on names alone, whatever folder they lie in.
Photos split_part(Photos photos, double share, Part part);

/// The names of the classes, by label, where their images are not needed. Of tar files this opens all.
std::vector<std::string> photo_classes(const std::string& place, PhotoForm form);

}  // namespace dcs3gd::data
