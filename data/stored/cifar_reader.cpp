#include "data/stored/cifar_reader.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <filesystem>
#include <span>
#include <vector>

#include "core/error.h"
#include "core/format.h"
#include "data/stored/gzip_file.h"

namespace dcs3gd::data {
namespace {

constexpr int kChannels = 3;
constexpr int kImageSize = 32;
constexpr std::size_t kPixelBytes = std::size_t{kChannels} * kImageSize * kImageSize;
constexpr int kCoarseClasses = 20;

struct CifarFormat {
  std::string_view name;
  std::size_t label_bytes;  ///< the last of them is the label in use
  int classes;

  std::size_t record_bytes() const { return label_bytes + kPixelBytes; }
};
constexpr CifarFormat kCifar10{"CIFAR-10", 1, 10};
constexpr CifarFormat kCifar100{"CIFAR-100", 2, 100};

std::vector<std::string> files_of(const std::string& path, std::span<const std::string_view> names) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) return {path};
  std::vector<std::string> files;
  for (const std::string_view name : names) files.push_back((std::filesystem::path(path) / name).string());
  return files;
}

std::size_t record_count(const CifarFormat& cifar, const GzipFile& file) {
  if (file.compressed()) file.refuse(0, "expected plain records, found gzip data; unpack the file first");
  const std::uint64_t bytes = file.max_content_bytes();
  if (bytes == 0 || bytes % cifar.record_bytes() != 0) {
    throw Error(
        ErrorKind::input,
        format("{}: expected whole records of {} bytes, found {} bytes in all (the last record starts at byte {}); "
               "the file is truncated or not the binary version of {}",
               file.path(), cifar.record_bytes(), bytes, bytes / cifar.record_bytes() * cifar.record_bytes(),
               cifar.name));
  }
  return bytes / cifar.record_bytes();
}

/// Reads one record: `pixels` receives the image; returns the label.
std::uint8_t read_record(const CifarFormat& cifar, GzipFile& file, std::size_t record, int classes,
                         std::span<std::uint8_t> pixels) {
  std::array<std::uint8_t, 2> labels{};
  file.read(std::span(labels).first(cifar.label_bytes), "labels");
  const std::uint8_t label = labels[cifar.label_bytes - 1];
  if (cifar.label_bytes == 2) check_label(file.path(), record, labels[0], kCoarseClasses);
  check_label(file.path(), record, label, std::min(cifar.classes, classes));
  file.read(pixels, "pixels");
  return label;
}

StoredImages read_files(const CifarFormat& cifar, const std::vector<std::string>& paths, int classes) {
  std::vector<GzipFile> files;
  std::size_t total = 0;
  for (const std::string& path : paths) total += record_count(cifar, files.emplace_back(path));

  StoredImages images{.channels = kChannels, .height = kImageSize, .width = kImageSize, .pixels = {}, .labels = {}};
  images.pixels.resize(total * kPixelBytes);
  images.labels.reserve(total);
  for (GzipFile& file : files) {
    const std::size_t records = record_count(cifar, file);
    for (std::size_t record = 0; record < records; ++record) {
      const auto pixels = std::span(images.pixels).subspan(images.labels.size() * kPixelBytes, kPixelBytes);
      images.labels.push_back(read_record(cifar, file, record, classes, pixels));
    }
    file.expect_end();
  }
  return images;
}

}  // namespace

StoredImages read_cifar10(const std::string& path, Part part, int classes) {
  constexpr std::array<std::string_view, 5> kTrain{"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                                                   "data_batch_4.bin", "data_batch_5.bin"};
  constexpr std::array<std::string_view, 1> kTest{"test_batch.bin"};
  return read_files(kCifar10, part == Part::train ? files_of(path, kTrain) : files_of(path, kTest), classes);
}

StoredImages read_cifar100(const std::string& path, Part part, int classes) {
  const std::array<std::string_view, 1> name{part == Part::train ? "train.bin" : "test.bin"};
  return read_files(kCifar100, files_of(path, name), classes);
}

}  // namespace dcs3gd::data
