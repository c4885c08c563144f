#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/photos/photo_source.h"

namespace dcs3gd::data {

/// Photos without labels (label() is 0), in the order of `paths`. A path is a photo, whatever its name; a folder, which
/// stands for the photos in it and below it, in the order of their paths' bytes, names that begin with a dot passed
/// over; a file NAME.tar, which stands for the photos in it; or "-", one photo that is read from standard input. A link
/// to a folder is followed where it is named, not below. Throws Error{input} for what is not there, folders and tar
/// files without photos, and damaged tar files.
std::unique_ptr<const PhotoSource> list_photos(const std::vector<std::string>& paths);

}  // namespace dcs3gd::data
