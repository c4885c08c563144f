#include "data/photos/tar_shards.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <map>
#include <span>
#include <utility>

#include "core/error.h"
#include "core/format.h"
#include "core/hash.h"
#include "core/log.h"
#include "data/paths.h"
#include "data/photos/shards.h"

namespace dcs3gd::data {
namespace {

namespace fs = std::filesystem;

bool is_tar_name(const fs::path& path) {
  return !path.filename().native().starts_with('.') && path.extension() == ".tar";
}

/// Calls `visit` with each visible tar file of a folder, however it is named beside others.
template <typename Visit>
std::error_code for_each_tar(const std::string& folder, Visit&& visit) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    std::error_code ignored;
    if (is_tar_name(entry->path()) && !entry->is_directory(ignored)) visit(entry->path().string());
  }
  return error;
}

std::uint64_t stamp_of(const PositionedFile& tar) {
  const std::string text = format("{} bytes of {} ns, read to the end", tar.size(), tar.modified_ns());
  return hash_bytes(std::as_bytes(std::span(text)));
}

/// What stands in an index file before the index.
struct TarCounts {
  std::uint64_t ignored = 0;
  std::uint64_t dotted_labels = 0;
  std::array<char, 256> first_dotted_label{};  ///< ended by a zero
};

TarCounts counts_of(const TarSamples& samples) {
  TarCounts counts{.ignored = samples.ignored, .dotted_labels = samples.dotted_labels};
  samples.first_dotted_label.copy(counts.first_dotted_label.data(), counts.first_dotted_label.size() - 1);
  return counts;
}

TarSamples samples_of(ShardIndex index, TarCounts counts) {
  counts.first_dotted_label.back() = '\0';
  return {.index = std::move(index),
          .ignored = counts.ignored,
          .dotted_labels = counts.dotted_labels,
          .first_dotted_label = counts.first_dotted_label.data()};
}

std::string_view bytes_of(const TarCounts& counts) { return {reinterpret_cast<const char*>(&counts), sizeof(counts)}; }

/// A tar file in the text of walk_tars(): this, the path, the footer of its index.
struct WalkedHead {
  std::uint64_t tar_bytes = 0;
  std::uint64_t path_bytes = 0;
  std::uint64_t footer_bytes = 0;
  TarCounts counts;
};

struct WalkedTar {
  WalkedHead head;
  std::string_view footer;
};

std::map<std::string, WalkedTar, std::less<>> parse_walked(std::string_view text) {
  std::map<std::string, WalkedTar, std::less<>> tars;
  while (!text.empty()) {
    WalkedTar tar;
    const bool has_head = text.size() >= sizeof(tar.head);
    if (has_head) std::memcpy(&tar.head, text.data(), sizeof(tar.head));
    text.remove_prefix(std::min(sizeof(tar.head), text.size()));
    if (!has_head || tar.head.path_bytes > text.size() || tar.head.footer_bytes > text.size() - tar.head.path_bytes) {
      throw Error(ErrorKind::failure, "what rank 0 says of the tar files is damaged");
    }
    const std::string path(text.substr(0, tar.head.path_bytes));
    tar.footer = text.substr(tar.head.path_bytes, tar.head.footer_bytes);
    text.remove_prefix(tar.head.path_bytes + tar.head.footer_bytes);
    tars.emplace(path, tar);
  }
  return tars;
}

/// Says once, of all files, what costs time.
void warn_of_walks(const std::string& place, std::size_t walked, std::size_t tars, const std::string& first) {
  if (walked == 0) return;
  log::warn(
      format("{}; all headers of {} of {} tar files were read, which takes time at every start: dcs3gd-data "
             "index '{}' does it once",
             first, walked, tars, place));
}

}  // namespace

bool holds_tars(const std::string& folder) {
  bool has_tar = false;
  return !for_each_tar(folder, [&](const std::string& /*path*/) { has_tar = true; }) && has_tar;
}

std::vector<std::string> list_tars(const std::string& place) {
  std::error_code error;
  if (!fs::is_directory(place, error)) {
    std::vector<std::string> tars = expand_pattern(place);
    if (tars.empty()) throw Error(ErrorKind::input, format("{}: expected tar files, found none", place));
    return tars;
  }
  std::vector<std::string> tars;
  error = for_each_tar(place, [&](std::string path) { tars.push_back(std::move(path)); });
  if (error) throw Error(ErrorKind::input, format("{}: cannot be listed: {}", place, error.message()));
  if (tars.empty()) throw Error(ErrorKind::input, format("{}: expected tar files, found none", place));
  std::ranges::sort(tars);
  return tars;
}

std::string tar_index_path(const std::string& tar) { return tar + ".index"; }

std::string tar_index_file(const PositionedFile& tar, const TarSamples& samples) {
  ShardIndex index = samples.index;
  index.source_hash = stamp_of(tar);
  const TarCounts counts = counts_of(samples);
  std::string file = shard_header();
  file += bytes_of(counts);
  return file + shard_footer(index, file.size());
}

std::string read_tar_index(const PositionedFile& tar, TarSamples& samples) {
  const std::string path = tar_index_path(tar.path());
  std::error_code error;
  if (!fs::exists(path, error)) return "there is no index";
  try {
    ShardIndex index = read_index_of(path, tar.size());
    if (index.source_hash != stamp_of(tar)) return "the file has changed since its index was made, or that is old";
    TarCounts counts;
    open_file(path).read(shard_header().size(), std::as_writable_bytes(std::span(&counts, 1)));
    samples = samples_of(std::move(index), counts);
  } catch (const Error& damage) {
    if (damage.kind() != ErrorKind::input) throw;
    return damage.what();
  }
  return "";
}

std::string walk_tars(const std::string& place, const std::function<void()>& on_member) {
  std::string text;
  std::size_t walked = 0;
  std::string first;
  const std::vector<std::string> tars = list_tars(place);
  for (const std::string& path : tars) {
    on_member();
    const PositionedFile tar = open_file(path);
    TarSamples samples;
    const std::string reason = read_tar_index(tar, samples);
    if (reason.empty()) continue;
    if (walked++ == 0) first = format("{}: {}", path, reason);
    samples = index_tar(tar, on_member);
    const std::string footer = shard_footer(samples.index, 0);
    const WalkedHead head{.tar_bytes = tar.size(),
                          .path_bytes = path.size(),
                          .footer_bytes = footer.size(),
                          .counts = counts_of(samples)};
    text.append(reinterpret_cast<const char*>(&head), sizeof(head)).append(path).append(footer);
  }
  warn_of_walks(place, walked, tars.size(), first);
  return text;
}

TarPhotos open_tars(const std::string& place, std::string_view walked) {
  TarPhotos photos;
  std::vector<PackedFile> files;
  std::string hashes;
  std::size_t walked_here = 0;
  std::string first_walked;
  TarSamples dotted;  // all files' together
  const auto known = parse_walked(walked);
  const std::vector<std::string> tars = list_tars(place);
  files.reserve(tars.size());
  for (const std::string& path : tars) {
    const PositionedFile tar = open_file(path);
    TarSamples samples;
    if (const auto found = known.find(path); found != known.end()) {
      const auto& [head, footer] = found->second;
      if (head.tar_bytes != tar.size()) {
        throw Error(ErrorKind::input, format("{}: {} bytes, {} when it was listed; let all hosts see the same files",
                                             path, tar.size(), head.tar_bytes));
      }
      samples = samples_of(index_from_footer(path, footer, tar.size()), head.counts);
    } else if (const std::string reason = read_tar_index(tar, samples); !reason.empty()) {
      if (walked_here++ == 0) first_walked = format("{}: {}", path, reason);
      samples = index_tar(tar);
    }
    for (const ShardRecord& record : samples.index.records) {
      photos.classes = std::max(photos.classes, static_cast<std::size_t>(record.label) + 1);
    }
    photos.ignored += samples.ignored;
    if (dotted.dotted_labels == 0) dotted.first_dotted_label = samples.first_dotted_label;
    dotted.dotted_labels += samples.dotted_labels;
    hashes += format("{} {}\n", fs::path(path).filename().string(), hash_text(index_checksum(samples.index)));
    files.emplace_back(tar, std::move(samples.index), false);
  }
  warn_of_walks(place, walked_here, files.size(), first_walked);
  photos.tars = files.size();
  photos.checksums = hash_text(hashes);
  photos.dotted_labels_problem = dotted_labels_problem(dotted);
  if (photos.classes == 0) {
    const std::string why =
        photos.dotted_labels_problem.empty()
            ? format("{} files of other kinds, none called KEY.jpg, KEY.png and KEY.cls", photos.ignored)
            : photos.dotted_labels_problem;
    throw Error(ErrorKind::input, format("{}: no images in {} tar files: {}", place, photos.tars, why));
  }
  photos.source = open_packed(place, std::move(files));
  return photos;
}

}  // namespace dcs3gd::data
