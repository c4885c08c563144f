#include "data/photos/photo_list.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <filesystem>
#include <limits>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

#include <unistd.h>

#include "core/error.h"
#include "core/files.h"
#include "core/format.h"
#include "core/hash.h"
#include "data/photos/image_decoder.h"
#include "data/photos/image_folder.h"

namespace dcs3gd::data {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStandardInput = "-";

bool is_hidden(const fs::path& path) { return path.filename().string().starts_with('.'); }

/// Adds the photos in the folder and below it.
void find_photos(const std::string& folder, std::vector<std::string>& found) {
  std::error_code error;
  std::vector<std::string> folders;
  for (fs::directory_iterator entry(folder, error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    std::error_code ignored;
    if (is_hidden(entry->path())) continue;
    if (entry->is_directory(ignored)) {
      if (!entry->is_symlink(ignored)) folders.push_back(entry->path().string());
    } else if (has_image_name(entry->path())) {
      found.push_back(entry->path().string());
    }
  }
  if (error) throw Error(ErrorKind::input, format("{}: {}", folder, error.message()));
  for (const std::string& below : folders) find_photos(below, found);
}

std::vector<std::string> photos_below(const std::string& folder) {
  std::vector<std::string> found;
  find_photos(folder, found);
  if (found.empty()) {
    throw Error(ErrorKind::input, format("{}: no .jpg, .jpeg or .png files in it or below it", folder));
  }
  std::ranges::sort(found);
  return found;
}

std::vector<std::uint8_t> read_standard_input() {
  std::vector<std::uint8_t> bytes;
  std::array<std::uint8_t, 1 << 16> part{};
  while (true) {
    const ssize_t count = ::read(STDIN_FILENO, part.data(), part.size());
    if (count == 0) return bytes;
    if (count < 0) throw Error(ErrorKind::input, format("standard input: {}", system_reason()));
    bytes.insert(bytes.end(), part.begin(), part.begin() + count);
    if (bytes.size() > static_cast<std::size_t>(kMaxDecoderBytes)) {
      throw Error(ErrorKind::input, "standard input: the photo is too large");
    }
  }
}

class PhotoList final : public PhotoSource {
 public:
  PhotoList(std::vector<std::string> files, std::vector<std::uint8_t> standard_input)
      : files_(std::move(files)), standard_input_(std::move(standard_input)) {}

  std::uint32_t size() const override { return static_cast<std::uint32_t>(files_.size()); }
  std::int32_t label(std::uint32_t /*index*/) const override { return 0; }
  std::uint64_t bytes(std::uint32_t index) const override {
    if (files_[index] == kStandardInput) return standard_input_.size();
    std::error_code error;
    const std::uintmax_t bytes = fs::file_size(files_[index], error);
    return error ? 0 : bytes;
  }
  std::string name(std::uint32_t index) const override { return files_[index]; }
  std::uint64_t identity(std::uint32_t index) const override {
    return hash_bytes(std::as_bytes(std::span(files_[index])));
  }
  std::string fetch(std::uint32_t index, std::vector<std::uint8_t>& file) const override {
    if (files_[index] != kStandardInput) return read_image_file(files_[index], file);
    file = standard_input_;
    return "";
  }

 private:
  std::vector<std::string> files_;
  std::vector<std::uint8_t> standard_input_;
};

}  // namespace

std::unique_ptr<const PhotoSource> list_photos(const std::vector<std::string>& paths) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (fs::is_directory(status)) {
      std::vector<std::string> found = photos_below(path);
      std::ranges::move(found, std::back_inserter(files));
    } else if (path == kStandardInput || fs::exists(status)) {
      files.push_back(path);
    } else {
      throw Error(ErrorKind::input, format("{}: {}", path, error ? error.message() : "No such file or directory"));
    }
  }
  if (files.size() > std::numeric_limits<std::uint32_t>::max()) throw Error(ErrorKind::input, "too many photos");
  const bool reads_input = std::ranges::find(files, kStandardInput) != files.end();
  return std::make_unique<PhotoList>(std::move(files),
                                     reads_input ? read_standard_input() : std::vector<std::uint8_t>());
}

}  // namespace dcs3gd::data
