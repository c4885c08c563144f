#include "data/image_folder.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <limits>
#include <span>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "core/format.h"
#include "core/hash.h"
#include "data/image_decoder.h"

namespace dcs3gd::data {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kClassesInSummary = 8;

bool is_hidden(const fs::path& path) { return path.filename().native().starts_with('.'); }

bool has_image_name(const fs::path& path) {
  std::string extension = path.extension().string();
  for (char& c : extension) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png";
}

[[noreturn]] void refuse(const fs::path& path, std::string_view what) {
  throw Error(ErrorKind::input, format("{}: {}", path.string(), what));
}

/// Runs over a folder's visible entries.
template <typename Visit>
void for_each_entry(const fs::path& folder, Visit&& visit) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (!is_hidden(entry->path())) visit(*entry);
  }
  if (error) refuse(folder, format("cannot be listed: {}", error.message()));
}

/// What an entry is; a link counts as what it leads to.
fs::file_type type_of(const fs::directory_entry& entry) {
  std::error_code error;
  const fs::file_type type = entry.status(error).type();
  if (type == fs::file_type::not_found) refuse(entry.path(), "the link leads nowhere; mend or remove it");
  if (error) refuse(entry.path(), error.message());
  return type;
}

struct ImageFile {
  std::string name;
  std::uintmax_t bytes = 0;
};

std::vector<ImageFile> list_class(const fs::path& folder, std::int64_t& ignored) {
  std::vector<ImageFile> files;
  for_each_entry(folder, [&](const fs::directory_entry& entry) {
    if (type_of(entry) != fs::file_type::regular || !has_image_name(entry.path())) {
      ++ignored;
      return;
    }
    std::error_code error;
    files.push_back({entry.path().filename().string(), entry.file_size(error)});
    if (error) refuse(entry.path(), error.message());
  });
  if (files.empty()) refuse(folder, "expected images (.jpg, .jpeg, .png), found none; add some or remove the folder");
  std::ranges::sort(files, {}, &ImageFile::name);
  return files;
}

class ListedFiles final : public PhotoSource {
 public:
  explicit ListedFiles(ImageListing listing) : listing_(std::move(listing)) {}

  std::uint32_t size() const override { return static_cast<std::uint32_t>(listing_.entries.size()); }
  std::int32_t label(std::uint32_t index) const override { return listing_.entries[index].label; }
  std::string name(std::uint32_t index) const override { return listing_.path(index); }
  std::string fetch(std::uint32_t index, std::vector<std::uint8_t>& file) const override {
    return read_image_file(listing_.path(index), file);
  }

 private:
  ImageListing listing_;
};

/// A descriptor that closes itself.
class OpenFile {
 public:
  explicit OpenFile(const std::string& path) : descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  ~OpenFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  int get() const { return descriptor_; }

 private:
  int descriptor_;
};

/// The words for errno if it says something about the file; what it says about the machine ends the run.
std::string file_problem(const std::string& path) {
  constexpr std::array kOfTheFile{ENOENT, EACCES, EPERM, ELOOP, ENOTDIR, ESTALE, ENXIO};
  const int code = errno;
  std::string reason = std::strerror(code);
  if (std::ranges::find(kOfTheFile, code) != kOfTheFile.end()) return reason;
  throw Error(ErrorKind::failure, format("{}: cannot be read: {}", path, reason));
}

}  // namespace

std::string ImageListing::summary() const {
  std::string list;
  for (std::size_t label = 0; label < std::min(classes.size(), kClassesInSummary); ++label) {
    list += format("{}{} {}", list.empty() ? "" : ", ", classes[label], class_counts[label]);
  }
  if (classes.size() > kClassesInSummary) {
    list += format(", … {} {}", classes.back(), class_counts.back());
  }
  return format("{} images of {} classes ({}){}", entries.size(), classes.size(), list,
                ignored > 0 ? format(", {} other files passed over", ignored) : "");
}

std::string part_folder(const std::string& path, Part part) {
  const fs::path folder = (fs::path(path) / "").parent_path();  // without a slash at the end
  const fs::path train = folder / "train";
  const fs::path val = folder / "val";
  std::error_code ignored;
  if (!fs::is_directory(train, ignored) || !fs::is_directory(val, ignored)) return folder.string();
  return (part == Part::train ? train : val).string();
}

std::vector<std::string> list_classes(const std::string& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) refuse(folder, "expected a folder with one folder of images for each class");
  std::vector<std::string> classes;
  for_each_entry(folder, [&](const fs::directory_entry& entry) {
    if (type_of(entry) == fs::file_type::directory) classes.push_back(entry.path().filename().string());
  });
  if (classes.empty()) refuse(folder, "expected a folder of images for each class, found no folder");
  std::ranges::sort(classes);
  return classes;
}

ImageListing list_images(const std::string& folder, const std::vector<std::string>& classes) {
  ImageListing listing;
  listing.folder = folder;
  listing.classes = classes;
  listing.class_counts.resize(classes.size());
  std::string hashes;
  for (const std::string& name : list_classes(folder)) {
    const auto place = std::ranges::lower_bound(classes, name);
    if (place == classes.end() || *place != name) {
      refuse(fs::path(folder) / name, "no class of this name among the training images; the two parts must agree");
    }
    const auto label = place - classes.begin();
    const std::vector<ImageFile> files = list_class(fs::path(folder) / name, listing.ignored);
    std::string text;
    for (const ImageFile& file : files) {
      listing.entries.push_back({listing.names.size(), static_cast<std::int32_t>(label)});
      listing.names += format("{}/{}", name, file.name) + '\0';
      text += format("{} {}\n", file.name, file.bytes);
    }
    listing.class_counts[static_cast<std::size_t>(label)] = static_cast<std::uint32_t>(files.size());
    hashes += format("{} {} {}\n", label, name, hash_text(text));
  }
  if (listing.entries.size() > std::numeric_limits<std::uint32_t>::max()) refuse(folder, "too many images");
  listing.fingerprint =
      format("{} images in {} classes, listing {}", listing.entries.size(), classes.size(), hash_text(hashes));
  return listing;
}

std::unique_ptr<const PhotoSource> open_files(ImageListing listing) {
  return std::make_unique<ListedFiles>(std::move(listing));
}

std::string read_image_file(const std::string& path, std::vector<std::uint8_t>& file) {
  const OpenFile open(path);
  struct stat status {};
  if (open.get() < 0 || ::fstat(open.get(), &status) != 0) return file_problem(path);
  if (!S_ISREG(status.st_mode)) return "no regular file";
  if (status.st_size > kMaxDecoderBytes) return "the file is too large";
  file.resize(static_cast<std::size_t>(status.st_size));
  for (std::size_t done = 0; done < file.size();) {
    const ssize_t count = ::read(open.get(), file.data() + done, file.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return file_problem(path);
    if (count == 0) return "the file became shorter while it was read";
    done += static_cast<std::size_t>(count);
  }
  return "";
}

}  // namespace dcs3gd::data
