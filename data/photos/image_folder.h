#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/files.h"
#include "data/photos/photo_source.h"

namespace dcs3gd::data {

/// The files of an image folder: FOLDER/<class>/…/<image>, classes in the order of their names' bytes, images in that
/// of (folder, name), as torchvision has them.
struct ImageListing {
  struct Entry {
    std::uint64_t name = 0;  ///< where "class/…/image" begins in `names`
    std::uint64_t bytes = 0;
    std::int32_t label = 0;
  };

  std::string folder;
  std::vector<std::string> classes;
  std::string names;  ///< "class/…/image" of all entries, each ended by a zero
  std::vector<Entry> entries;
  std::vector<std::uint32_t> class_counts;
  std::int64_t ignored = 0;     ///< files of other kinds
  std::int64_t subfolders = 0;  ///< folders within classes, whose times FolderState does not have
  std::string fingerprint;      ///< of names and sizes

  const char* name(std::uint32_t index) const { return names.c_str() + entries[index].name; }
  std::string path(std::uint32_t index) const { return folder + "/" + name(index); }
};

/// Whether a file of this name is taken for an image.
bool has_image_name(const std::filesystem::path& path);

/// The names of the class folders: all folders whose names do not begin with a dot, links to folders too.
std::vector<std::string> list_classes(const std::string& folder);

/// The places in `classes` of a folder's `own` classes. Throws Error{input} for one that is not there: a label means
/// what the model's class of that name means, whatever other folders there are.
std::vector<std::int32_t> labels_in(const std::string& folder, const std::vector<std::string>& own,
                                    const std::vector<std::string>& classes);

/// Lists .jpg, .jpeg and .png files, in any case, in class folders and all folders below; links count as what they lead
/// to; names that begin with a dot are passed over. Labels are places in `classes`, in which every class of the folder
/// must be. Throws Error{input} for classes without images and links that lead nowhere. `on_file` is called after each
/// file.
ImageListing list_images(
    const std::string& folder, const std::vector<std::string>& classes, const std::function<void()>& on_file = [] {});

/// Writes a listing, all of it but the folder, as text to be kept in a file or sent to other machines.
std::string to_text(const ImageListing& listing);
/// Throws Error{input} for what is not a whole listing.
ImageListing parse_listing(const std::string& folder, std::string_view text);
/// Whether folder_state() notices every change of the files in this text of a listing.
bool is_watched(std::string_view text);
/// Compares the classes and two files per class, the first and the last, with the listing: enough to notice another
/// data set. Returns the first difference, empty if there is none.
std::string difference_to_folder(const ImageListing& listing);

/// Gives access to the images of a listing.
std::unique_ptr<const PhotoSource> open_files(ImageListing listing);

/// Reads a whole file; returns what is wrong with it, as PhotoSource::fetch() does.
std::string read_image_file(const std::string& path, std::vector<std::uint8_t>& file,
                            PositionedFile::IfMissing if_missing = PositionedFile::IfMissing::give_up);

}  // namespace dcs3gd::data
