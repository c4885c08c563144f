#include "data/stored/idx_reader.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <vector>

#include "core/error.h"
#include "core/format.h"
#include "data/stored/gzip_file.h"

namespace dcs3gd::data {
namespace {

namespace fs = std::filesystem;

constexpr std::uint32_t kImagesMagic = 2051;  ///< unsigned bytes, three dimensions
constexpr std::uint32_t kLabelsMagic = 2049;  ///< unsigned bytes, one dimension
constexpr std::string_view kImagesMark = "images-idx3";
constexpr std::string_view kLabelsMark = "labels-idx1";
constexpr std::string_view kGzipSuffix = ".gz";

struct IdxFiles {
  std::string images;
  std::string labels;
};

/// The file of this name, plain (which wins) or compressed.
std::string plain_or_compressed(const fs::path& plain) {
  std::string compressed = plain.string() + std::string(kGzipSuffix);
  std::error_code ignored;
  if (fs::exists(plain, ignored)) return plain.string();
  if (fs::exists(compressed, ignored)) return compressed;
  throw Error(ErrorKind::input,
              format("{}: expected this file or {}, found neither; put it there, or correct data.train "
                     "and data.eval",
                     plain.string(), compressed));
}

IdxFiles find_files(const std::string& path, Part part) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    const std::string prefix = part == Part::train ? "train-" : "t10k-";
    return {plain_or_compressed(fs::path(path) / format("{}{}-ubyte", prefix, kImagesMark)),
            plain_or_compressed(fs::path(path) / format("{}{}-ubyte", prefix, kLabelsMark))};
  }
  std::string labels = fs::path(path).filename().string();
  const std::size_t mark = labels.rfind(kImagesMark);
  if (mark == std::string::npos) {
    throw Error(ErrorKind::input,
                format("{}: expected a folder or a file whose name contains '{}' (so that the labels can "
                       "be found under '{}'); rename the files",
                       path, kImagesMark, kLabelsMark));
  }
  labels.replace(mark, kImagesMark.size(), kLabelsMark);
  if (labels.ends_with(kGzipSuffix)) labels.resize(labels.size() - kGzipSuffix.size());
  return {path, plain_or_compressed(fs::path(path).parent_path() / labels)};
}

/// a × b, or the largest number if that is too large.
std::uint64_t saturating_product(std::uint64_t a, std::uint64_t b) {
  constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();
  return b != 0 && a > kMax / b ? kMax : a * b;
}

void read_magic(GzipFile& file, std::uint32_t expected) {
  const std::uint32_t found = file.read_big_endian_u32("magic number");
  if (found == expected) return;
  file.refuse(0, format("expected the magic number {}, found {}; this is not an IDX file of {}", expected, found,
                        expected == kImagesMagic ? "images" : "labels"));
}

/// The rest of the file: exactly `bytes` bytes. Nothing is allocated before the claim has been compared with the size.
std::vector<std::uint8_t> read_body(GzipFile& file, std::uint64_t bytes, std::string_view what) {
  if (bytes > file.max_content_bytes() - file.offset()) {
    file.refuse(file.offset(), format("the header claims {} bytes of {}, the file can hold at most {} after it; it is "
                                      "truncated or damaged: fetch it again",
                                      bytes, what, file.max_content_bytes() - file.offset()));
  }
  std::vector<std::uint8_t> body(bytes);
  file.read(body, what);
  file.expect_end();
  return body;
}

StoredImages read_images(const std::string& path) {
  GzipFile file(path);
  read_magic(file, kImagesMagic);
  const std::uint32_t count = file.read_big_endian_u32("header");
  const std::uint32_t height = file.read_big_endian_u32("header");
  const std::uint32_t width = file.read_big_endian_u32("header");
  if (count == 0 || height == 0 || width == 0) {
    file.refuse(
        4, format("expected at least one image of at least one pixel, found {} images of {}x{}", count, height, width));
  }
  StoredImages images;
  images.pixels = read_body(file, saturating_product(saturating_product(count, height), width), "pixels");
  // A side that does not fit an int needs a file of 2 GiB for one image; it would be refused as too large anyway.
  constexpr std::uint32_t kMaxSide = std::numeric_limits<int>::max();
  if (height > kMaxSide || width > kMaxSide)
    file.refuse(8, format("images of {}x{} pixels are too large", height, width));
  images.channels = 1;
  images.height = static_cast<int>(height);
  images.width = static_cast<int>(width);
  return images;
}

std::vector<std::uint8_t> read_labels(const std::string& path, int classes) {
  GzipFile file(path);
  read_magic(file, kLabelsMagic);
  const std::uint32_t count = file.read_big_endian_u32("header");
  std::vector<std::uint8_t> labels = read_body(file, count, "labels");
  for (std::size_t record = 0; record < labels.size(); ++record) check_label(path, record, labels[record], classes);
  return labels;
}

}  // namespace

StoredImages read_idx(const std::string& path, Part part, int classes) {
  const IdxFiles files = find_files(path, part);
  StoredImages images = read_images(files.images);
  images.labels = read_labels(files.labels, classes);
  const std::size_t count =
      images.pixels.size() / static_cast<std::size_t>(images.height) / static_cast<std::size_t>(images.width);
  if (images.labels.size() != count) {
    throw Error(ErrorKind::input,
                format("{}: expected {} labels, one for each image of {}, found {}; the two files do not "
                       "belong together",
                       files.labels, count, files.images, images.labels.size()));
  }
  return images;
}

}  // namespace dcs3gd::data
