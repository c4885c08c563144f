#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/options.h"

namespace dcs3gd::data {

class CropRule;
struct ReadBuffers;

/// Describes a data set: `size` square images of one shape with labels 0 … classes − 1.
struct DatasetProperties {
  std::uint32_t size = 0;  ///< images, ≥ 1
  int classes = 0;         ///< of the model; labels are below
  int channels = 0;
  int height = 0;                             ///< pixels
  int width = 0;                              ///< pixels
  int classes_found = 0;                      ///< in the data: at most `classes`
  std::string description;                    ///< one line for the table at the start of a run
  std::string fingerprint;                    ///< equal for equal contents, wherever they were found
  std::string warning = {};                   ///< what the user may not expect of the data; empty: nothing
  std::vector<std::string> class_names = {};  ///< by label; none where classes have numbers only
};

/// The outcome of reading an image. Large collections hold files that cannot be decoded, so that is no exception.
struct ReadResult {
  std::int32_t label = 0;
  std::string problem;  ///< "FILE: PROBLEM"; empty: the image was read
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
  int classes_found() const { return properties_.classes_found; }
  const std::string& warning() const { return properties_.warning; }
  const std::string& description() const { return properties_.description; }
  const std::string& fingerprint() const { return properties_.fingerprint; }
  const std::vector<std::string>& class_names() const { return properties_.class_names; }
  /// Bytes of one image: channels × height × width.
  std::size_t image_bytes() const {
    return static_cast<std::size_t>(channels()) * static_cast<std::size_t>(height()) *
           static_cast<std::size_t>(width());
  }

  /// The file that image `index` came from, for people; empty where images have no files of their own.
  virtual std::string file(std::uint32_t /*index*/) const { return ""; }
  /// A number that two images share hardly ever unless one is a copy of the other; none: they are made by code.
  virtual std::optional<std::uint64_t> identity(std::uint32_t /*index*/) const { return std::nullopt; }
  /// Writes image `index` (< size()), cropped, as bytes, CHW, to `pixels` (image_bytes() long). Images that have the
  /// right size already are cropped only if the rule is random.
  virtual ReadResult read(std::uint32_t index, const CropRule& crop_rule, ReadBuffers& buffers,
                          std::span<std::uint8_t> pixels) const = 0;

 private:
  DatasetProperties properties_;
};

/// One part of a data set, as a format (data/formats.h) is asked to open it.
struct OpenRequest {
  const DataOptions& options;
  Part part = Part::train;
  std::uint64_t seed = 1;                     ///< of generated images
  int classes = 0;                            ///< of the model
  std::string path = {};                      ///< of the part, resolved; empty for generated images
  std::string_view listing = {};              ///< of its files if they were listed before, on any machine
  std::vector<std::string> class_names = {};  ///< of the model or the training part, by label; empty: not known
};

}  // namespace dcs3gd::data
