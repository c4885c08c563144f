#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/options.h"
#include "data/photos/folder_state.h"
#include "data/photos/image_decoder.h"
#include "data/transform/crop.h"

namespace dcs3gd::data {

/// What a data set holds: `size` square images of one shape with labels 0 … classes − 1.
struct DatasetProperties {
  std::uint32_t size = 0;  ///< images, ≥ 1
  int classes = 0;         ///< of the model; labels are below
  int channels = 0;
  int height = 0;                             ///< pixels
  int width = 0;                              ///< pixels
  std::string description;                    ///< one line for the table at the start of a run
  std::string fingerprint;                    ///< equal for equal contents, wherever they were found
  std::vector<std::string> class_names = {};  ///< by label; none where classes have numbers only
};

/// What came of reading an image. Files that cannot be shown are to be expected in large collections, so that is no
/// exception.
struct ReadResult {
  std::int32_t label = 0;
  std::string problem;  ///< "FILE: what is wrong with it"; empty: the image was read
};

/// Memory that reading takes, kept from image to image. One thread at a time.
struct ReadBuffers {
  std::vector<std::uint8_t> file;
  DecodedImage image;
};

/// A numbered set of labelled images. Immutable once opened: read() may be called by several threads at once.
class Dataset {
 public:
  explicit Dataset(DatasetProperties properties) : properties_(std::move(properties)) {}
  Dataset(const Dataset&) = delete;
  Dataset& operator=(const Dataset&) = delete;
  virtual ~Dataset() = default;

  std::uint32_t size() const { return properties_.size; }
  int classes() const { return properties_.classes; }
  int channels() const { return properties_.channels; }
  int height() const { return properties_.height; }
  int width() const { return properties_.width; }
  const std::string& description() const { return properties_.description; }
  const std::string& fingerprint() const { return properties_.fingerprint; }
  const std::vector<std::string>& class_names() const { return properties_.class_names; }
  /// Bytes of one image: channels × height × width.
  std::size_t image_bytes() const;

  /// The file that image `index` came from, for people; empty where images have no files of their own.
  virtual std::string file(std::uint32_t /*index*/) const { return ""; }
  /// Writes image `index` (< size()), cropped, as bytes, CHW, to `pixels` (image_bytes() long). Images that have the
  /// right size already are cropped only if the rule is random.
  virtual ReadResult read(std::uint32_t index, const CropRule& crop_rule, ReadBuffers& buffers,
                          std::span<std::uint8_t> pixels) const = 0;

 private:
  DatasetProperties properties_;
};

/// Opens one part of the data set that the options describe and checks all of it that can be checked: everything wrong
/// with the files or the options is an Error{input} that names the file and the record. `seed` matters to generated
/// images only, `classes` is the number of classes of the model. `listing`: of list_files(), made before or on another
/// machine; empty: files are listed now.
std::shared_ptr<const Dataset> open_dataset(const DataOptions& options, Part part, std::uint64_t seed, int classes,
                                            std::string_view listing = {});

/// Whether opening lists files, which takes minutes for a million of them: list_files() makes the listing once, for all
/// machines that see the same folder, and for as long as files_state() stays what it was.
bool lists_files(const DataOptions& options);
std::string list_files(const DataOptions& options, Part part, const std::function<void()>& on_file);
FolderState files_state(const DataOptions& options, Part part);
/// What at first sight shows that the files here are not those of the listing; empty: nothing.
std::string listing_problem(const DataOptions& options, Part part, std::string_view listing);

/// Whether something lies at the part's path; true for generated data.
bool is_data_present(const DataOptions& options, Part part);

/// The absolute form of a path of the configuration: a relative one is looked for under the folder that the environment
/// variable DCS3GD_DATA names if it is set, else in the current folder. Throws Error{input} if nothing is there.
std::string resolve_data_path(const std::string& path);

}  // namespace dcs3gd::data
