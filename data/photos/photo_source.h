#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace dcs3gd::data {

/// The encoded images of a photo data set, wherever they lie: in a folder, or packed into few large files. fetch() may
/// be called by several threads at once.
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
  /// A number that two images share hardly ever unless one is a copy of the other.
  virtual std::uint64_t identity(std::uint32_t index) const = 0;
  /// Fills `file` with the bytes of the encoded image. Returns what is wrong with it, empty if nothing is; what is
  /// wrong with the machine is an Error{failure}.
  virtual std::string fetch(std::uint32_t index, std::vector<std::uint8_t>& file) const = 0;
};

}  // namespace dcs3gd::data
