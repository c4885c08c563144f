#include "data/photos/image_folder.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <limits>
#include <map>
#include <mutex>
#include <set>
#include <span>
#include <string_view>
#include <tuple>
#include <utility>

#include "core/error.h"
#include "core/files.h"
#include "core/format.h"
#include "core/hash.h"
#include "core/stopwatch.h"
#include "data/photos/image_decoder.h"

namespace dcs3gd::data {
namespace {

namespace fs = std::filesystem;

bool is_hidden(const fs::path& path) { return path.filename().native().starts_with('.'); }

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
  if (type == fs::file_type::not_found) refuse(entry.path(), "the link leads nowhere; mend it");
  if (error) refuse(entry.path(), error.message());
  return type;
}

struct ImageFile {
  std::string folder;  ///< below that of the class: "" or "more/"
  std::string name;
  std::uintmax_t bytes = 0;

  std::string path() const { return folder + name; }
};

/// Lists the images of a class.
class ClassLister {
 public:
  ClassLister(fs::path folder, ImageListing& listing, const std::function<void()>& on_file)
      : class_folder_(std::move(folder)), listing_(listing), on_file_(on_file) {}

  std::vector<ImageFile> list() {
    walk("", 0);
    if (files_.empty()) {
      const std::string others = others_ > 0 ? format(" but {} other files such as {}", others_, first_other_) : "";
      refuse(class_folder_, format("expected images (.jpg, .jpeg, .png), found none{}; add some, or keep the folder "
                                   "elsewhere",
                                   others));
    }
    std::ranges::sort(files_, [](const ImageFile& a, const ImageFile& b) {
      return std::tie(a.folder, a.name) < std::tie(b.folder, b.name);
    });
    return std::move(files_);
  }

 private:
  /// Deeper is no order of photos but a link that leads back.
  static constexpr int kMaxDepth = 32;

  void walk(const std::string& below, int depth) {
    if (depth > kMaxDepth) refuse(class_folder_ / below, "folders this deep; does a link lead back to one of them?");
    for_each_entry(class_folder_ / below, [&](const fs::directory_entry& entry) {
      on_file_();
      const fs::file_type type = type_of(entry);
      const std::string name = entry.path().filename().string();
      if (type == fs::file_type::directory) {
        ++listing_.subfolders;
        return walk(below + name + "/", depth + 1);
      }
      if (type != fs::file_type::regular || !has_image_name(entry.path())) {
        if (others_++ == 0) first_other_ = below + name;
        ++listing_.ignored;
        return;
      }
      std::error_code error;
      files_.push_back({below, name, entry.file_size(error)});
      if (error) refuse(entry.path(), error.message());
    });
  }

  fs::path class_folder_;
  ImageListing& listing_;
  const std::function<void()>& on_file_;
  std::vector<ImageFile> files_;
  std::int64_t others_ = 0;
  std::string first_other_;
};

/// Takes a listing's text apart: records of a number, a space, a text and a zero.
class ListingReader {
 public:
  struct Record {
    std::uint64_t number = 0;
    std::string_view text;
  };

  ListingReader(const std::string& folder, std::string_view rest) : folder_(folder), rest_(rest) {}

  bool at_end() const { return rest_.empty(); }
  Record next() {
    const std::size_t length = rest_.find('\0');
    if (length == std::string_view::npos) fail();
    const std::string_view record = rest_.substr(0, length);
    rest_.remove_prefix(length + 1);
    Record result;
    const auto [end, error] = std::from_chars(record.data(), record.data() + record.size(), result.number);
    if (error != std::errc() || end == record.data() + record.size() || *end != ' ') fail();
    result.text = record.substr(static_cast<std::size_t>(end - record.data()) + 1);
    return result;
  }
  [[noreturn]] void fail() const { refuse(folder_, "its listing is damaged"); }

 private:
  const std::string& folder_;
  std::string_view rest_;
};

class ListedFiles final : public PhotoSource {
 public:
  explicit ListedFiles(ImageListing listing) : listing_(std::move(listing)) {}

  std::uint32_t size() const override { return static_cast<std::uint32_t>(listing_.entries.size()); }
  std::int32_t label(std::uint32_t index) const override { return listing_.entries[index].label; }
  std::uint64_t bytes(std::uint32_t index) const override { return listing_.entries[index].bytes; }
  std::string name(std::uint32_t index) const override { return listing_.path(index); }
  std::uint64_t identity(std::uint32_t index) const override {
    const std::string text = format("{} {}", listing_.name(index), bytes(index));
    return hash_bytes(std::as_bytes(std::span(text)));
  }
  /// A file that is not there is waited for, as it was there; not twice, and not after others in vain a moment ago.
  std::string fetch(std::uint32_t index, std::vector<std::uint8_t>& file) const override {
    const bool waits = is_worth_waiting(index);
    std::string problem = read_image_file(listing_.path(index), file,
                                          waits ? PositionedFile::IfMissing::wait : PositionedFile::IfMissing::give_up);
    if (waits && !problem.empty()) give_up(index);
    return problem;
  }

 private:
  static constexpr double kPatienceEvery_s = 1;

  bool is_worth_waiting(std::uint32_t index) const {
    const std::lock_guard lock(mutex_);
    return !given_up_.contains(index) && (given_up_.empty() || since_given_up_.elapsed_s() > kPatienceEvery_s);
  }
  void give_up(std::uint32_t index) const {
    const std::lock_guard lock(mutex_);
    given_up_.insert(index);
    since_given_up_.restart_s();
  }

  ImageListing listing_;
  mutable std::mutex mutex_;
  mutable std::set<std::uint32_t> given_up_;  ///< waited for in vain
  mutable Stopwatch since_given_up_;
};

}  // namespace

bool has_image_name(const fs::path& path) {
  const std::string extension = path.extension().string();
  return !extension.empty() && is_image_extension(std::string_view(extension).substr(1));
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

std::vector<std::int32_t> labels_in(const std::string& folder, const std::vector<std::string>& own,
                                    const std::vector<std::string>& classes) {
  std::map<std::string_view, std::int32_t> label_of;
  std::int32_t label = 0;
  for (const std::string& name : classes) label_of.emplace(name, label++);
  std::vector<std::int32_t> labels;
  labels.reserve(own.size());
  for (const std::string& name : own) {
    const auto found = label_of.find(name);
    if (found == label_of.end()) {
      const std::size_t shown = std::min<std::size_t>(classes.size(), 8);
      refuse(
          fs::path(folder) / name,
          format("no class of this name among those that the model learns or has learnt ({}{}); the names must agree",
                 fmt::join(std::span(classes).first(shown), ", "), shown < classes.size() ? ", ..." : ""));
    }
    labels.push_back(found->second);
  }
  return labels;
}

ImageListing list_images(const std::string& folder, const std::vector<std::string>& classes,
                         const std::function<void()>& on_file) {
  ImageListing listing;
  listing.folder = folder;
  listing.classes = classes;
  listing.class_counts.resize(classes.size());
  std::string hashes;
  std::vector<std::pair<std::int32_t, std::string>> found;  // by label
  const std::vector<std::string> own = list_classes(folder);
  const std::vector<std::int32_t> labels = labels_in(folder, own, classes);
  for (std::size_t i = 0; i < own.size(); ++i) found.emplace_back(labels[i], own[i]);
  std::ranges::sort(found);
  for (const auto& [label, name] : found) {
    const std::vector<ImageFile> files = ClassLister(fs::path(folder) / name, listing, on_file).list();
    std::string text;
    for (const ImageFile& file : files) {
      listing.entries.push_back({listing.names.size(), file.bytes, label});
      listing.names += format("{}/{}", name, file.path()) + '\0';
      text += format("{} {}\n", file.path(), file.bytes);
    }
    listing.class_counts[static_cast<std::size_t>(label)] = static_cast<std::uint32_t>(files.size());
    hashes += format("{} {} {}\n", label, name, hash_text(text));
  }
  if (listing.entries.size() > std::numeric_limits<std::uint32_t>::max()) refuse(folder, "too many images");
  listing.fingerprint =
      format("{} images in {} classes, listing {}", listing.entries.size(), classes.size(), hash_text(hashes));
  return listing;
}

std::string to_text(const ImageListing& listing) {
  std::string text;
  const auto add = [&](std::uint64_t number, std::string_view rest) {
    text += format("{} {}", number, rest);
    text += '\0';
  };
  add(static_cast<std::uint64_t>(listing.ignored), listing.fingerprint);
  add(static_cast<std::uint64_t>(listing.subfolders), "folders within classes");
  add(listing.classes.size(), "classes");
  for (std::size_t label = 0; label < listing.classes.size(); ++label) {
    add(listing.class_counts[label], listing.classes[label]);
  }
  for (const ImageListing::Entry& entry : listing.entries) add(entry.bytes, listing.names.c_str() + entry.name);
  return text;
}

ImageListing parse_listing(const std::string& folder, std::string_view text) {
  ListingReader reader(folder, text);
  ImageListing listing;
  listing.folder = folder;
  const ListingReader::Record head = reader.next();
  listing.ignored = static_cast<std::int64_t>(head.number);
  listing.fingerprint = head.text;
  listing.subfolders = static_cast<std::int64_t>(reader.next().number);
  const std::uint64_t classes = reader.next().number;
  for (std::uint64_t label = 0; label < classes; ++label) {
    const ListingReader::Record record = reader.next();
    listing.class_counts.push_back(static_cast<std::uint32_t>(record.number));
    listing.classes.emplace_back(record.text);
  }
  for (std::size_t label = 0; label < listing.classes.size(); ++label) {
    for (std::uint32_t image = 0; image < listing.class_counts[label]; ++image) {
      const ListingReader::Record record = reader.next();
      listing.entries.push_back({listing.names.size(), record.number, static_cast<std::int32_t>(label)});
      listing.names += record.text;
      listing.names += '\0';
    }
  }
  if (!reader.at_end() || listing.entries.empty()) reader.fail();
  return listing;
}

bool is_watched(std::string_view text) {
  const std::string folder;
  ListingReader reader(folder, text);
  reader.next();
  return reader.next().number == 0;
}

std::string difference_to_folder(const ImageListing& listing) {
  std::vector<std::string> listed;
  for (std::size_t label = 0; label < listing.classes.size(); ++label) {
    if (listing.class_counts[label] > 0) listed.push_back(listing.classes[label]);
  }
  std::ranges::sort(listed);
  if (list_classes(listing.folder) != listed) return format("{}: other classes than were listed", listing.folder);
  const auto difference = [&](std::uint32_t index) -> std::string {
    std::error_code error;
    const std::uintmax_t bytes = fs::file_size(listing.path(index), error);
    if (error) return format("{}: {}, but it was listed", listing.path(index), error.message());
    if (bytes == listing.entries[index].bytes) return "";
    return format("{}: {} bytes, {} when it was listed", listing.path(index), bytes, listing.entries[index].bytes);
  };
  std::uint32_t first = 0;
  for (const std::uint32_t count : listing.class_counts) {
    if (count == 0) continue;
    for (const std::uint32_t index : {first, first + count - 1}) {
      if (std::string found = difference(index); !found.empty()) return found;
    }
    first += count;
  }
  return "";
}

std::unique_ptr<const PhotoSource> open_files(ImageListing listing) {
  return std::make_unique<ListedFiles>(std::move(listing));
}

std::string read_image_file(const std::string& path, std::vector<std::uint8_t>& file,
                            PositionedFile::IfMissing if_missing) {
  std::string problem;
  for (int attempt = 0; attempt < 2; ++attempt) {  // a network file system may lose an open file
    const PositionedFile open(path, if_missing);
    if (!open.problem().empty()) return open.problem();
    if (open.size() > static_cast<std::uint64_t>(kMaxDecoderBytes)) return "the file is too large";
    file.resize(open.size());
    problem = open.try_read(0, std::as_writable_bytes(std::span(file)));
    if (problem.empty()) break;
  }
  return problem;
}

}  // namespace dcs3gd::data
