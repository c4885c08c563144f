#include "data/photos/photo_list.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <filesystem>
#include <limits>
#include <memory>
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
#include "data/photos/tar_reader.h"

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

/// A photo in a file of its own or in a tar file.
struct Photo {
  std::string name;
  const PositionedFile* tar = nullptr;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

class PhotoList final : public PhotoSource {
 public:
  void add(std::string file) {
    if (file == kStandardInput && standard_input_.empty()) standard_input_ = read_standard_input();
    photos_.push_back({.name = std::move(file)});
  }
  void add_tar(const std::string& path) {
    const auto& tar = tars_.emplace_back(std::make_unique<PositionedFile>(open_file(path)));
    const std::vector<TarImage> images = images_in_tar(*tar);
    if (images.empty()) throw Error(ErrorKind::input, format("{}: no .jpg, .jpeg or .png files in it", path));
    for (const TarImage& image : images) {
      photos_.push_back({format("{}/{}", path, image.name), tar.get(), image.offset, image.bytes});
    }
  }
  std::size_t count() const { return photos_.size(); }

  std::uint32_t size() const override { return static_cast<std::uint32_t>(photos_.size()); }
  std::int32_t label(std::uint32_t /*index*/) const override { return 0; }
  std::uint64_t bytes(std::uint32_t index) const override {
    const Photo& photo = photos_[index];
    if (photo.tar != nullptr) return photo.bytes;
    if (photo.name == kStandardInput) return standard_input_.size();
    std::error_code error;
    const std::uintmax_t bytes = fs::file_size(photo.name, error);
    return error ? 0 : bytes;
  }
  std::string name(std::uint32_t index) const override { return photos_[index].name; }
  std::uint64_t identity(std::uint32_t index) const override {
    return hash_bytes(std::as_bytes(std::span(photos_[index].name)));
  }
  std::string fetch(std::uint32_t index, std::vector<std::uint8_t>& file) const override {
    const Photo& photo = photos_[index];
    if (photo.tar != nullptr) {
      if (photo.bytes > static_cast<std::uint64_t>(kMaxDecoderBytes)) return "the file is too large";
      file.resize(photo.bytes);
      return photo.tar->try_read(photo.offset, std::as_writable_bytes(std::span(file)));
    }
    if (photo.name != kStandardInput) return read_image_file(photo.name, file);
    file = standard_input_;
    return "";
  }

 private:
  std::vector<Photo> photos_;
  std::vector<std::unique_ptr<const PositionedFile>> tars_;
  std::vector<std::uint8_t> standard_input_;
};

}  // namespace

std::unique_ptr<const PhotoSource> list_photos(const std::vector<std::string>& paths) {
  auto photos = std::make_unique<PhotoList>();
  for (const std::string& path : paths) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (fs::is_directory(status)) {
      for (std::string& photo : photos_below(path)) photos->add(std::move(photo));
    } else if (fs::is_regular_file(status) && path.ends_with(".tar")) {
      photos->add_tar(path);
    } else if (path == kStandardInput || fs::exists(status)) {
      photos->add(path);
    } else {
      throw Error(ErrorKind::input, format("{}: {}", path, error ? error.message() : "No such file or directory"));
    }
  }
  if (photos->count() > std::numeric_limits<std::uint32_t>::max()) throw Error(ErrorKind::input, "too many photos");
  return photos;
}

}  // namespace dcs3gd::data
