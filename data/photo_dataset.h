#pragma once

#include <cstdint>
#include <memory>
#include <string>
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
  /// For messages.
  virtual std::string name(std::uint32_t index) const = 0;
  /// Fills `file` with the bytes of the encoded image. Returns what is wrong with it, empty if nothing is; what is
  /// wrong with the machine is an Error{failure}.
  virtual std::string fetch(std::uint32_t index, std::vector<std::uint8_t>& file) const = 0;
};

/// Photos of any size, decoded when they are read.
class PhotoDataset final : public Dataset {
 public:
  PhotoDataset(std::unique_ptr<const PhotoSource> source, DatasetProperties properties);

  ReadResult read(std::uint32_t index, const Framing& framing, ReadBuffers& buffers,
                  std::span<std::uint8_t> pixels) const override;

 private:
  std::unique_ptr<const PhotoSource> source_;
};

}  // namespace dcs3gd::data
