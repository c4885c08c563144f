#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/dataset.h"
#include "data/options.h"

namespace dcs3gd::data {

/// A line of the table of formats. A new format is a file with its open function and a line in formats.cpp.
struct FormatInfo {
  enum class Files {
    none,   ///< the images are generated: data.train and data.eval are ignored
    known,  ///< named by the format
    listed  ///< found by listing folders, which takes minutes for a million files: list_files()
            ///< (data/photos/photo_dataset.h) does it once, for all machines that see the same folder
  };

  std::string_view name;  ///< in data.format
  /// What normalises images if the configuration does not say: one mean and std for any number of channels, or three
  /// for colour images; grey ones then get 0.5 and 0.25. Where the values come from: data/README.md.
  NormalizeOptions normalization;
  /// Opens a part and checks all of it that can be checked: everything wrong with the files or the options is an
  /// Error{input} that names the file and the record.
  std::shared_ptr<const Dataset> (*open)(const OpenRequest& request);
  Files files = Files::known;

  bool is_generated() const { return files == Files::none; }
};

/// All formats, in the order in which messages name them.
std::span<const FormatInfo> formats();

/// The line of data.format. Throws Error{input} if there is none.
const FormatInfo& format_of(const DataOptions& options);

/// The normalisation in use: what the configuration says, else the format's own, one mean and std per channel.
NormalizeOptions normalization_of(const DataOptions& options);

/// Opens one part of the data set that the options describe. Throws what FormatInfo::open throws. `seed` matters to
/// generated images only, `classes` is the number of classes of the model. `listing`: of list_files(), made before or
/// on another machine; empty: files are listed now. `class_names`: what labels mean, as the model's weights or the
/// training part, if that is open already, say it; else the evaluation part looks for them in the training part.
std::shared_ptr<const Dataset> open_dataset(const DataOptions& options, Part part, std::uint64_t seed, int classes,
                                            std::string_view listing = {},
                                            const std::vector<std::string>& class_names = {});

/// How many images of `eval` are copies of one of `train`, by Dataset::identity(). Takes a second for a million images.
std::uint32_t count_shared(const Dataset& train, const Dataset& eval);

/// Whether something lies at the part's path; true for generated images.
bool is_data_present(const DataOptions& options, Part part);

}  // namespace dcs3gd::data
