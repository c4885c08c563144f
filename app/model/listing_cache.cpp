#include "app/model/listing_cache.h"

#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "app/job/agreement.h"
#include "core/error.h"
#include "core/files.h"
#include "core/format.h"
#include "core/hash.h"
#include "core/log.h"

namespace dcs3gd::app {
namespace {

namespace fs = std::filesystem;

/// The first line of a file: form and version, the hashes of the folder's state and of the listing that follows.
std::string head_of(const data::FolderState& state, std::string_view listing) {
  return format("dcs3gd-train listing 2 state {} listing {}\n", hash_text(state.text), hash_text(listing));
}

}  // namespace

std::string ListingCache::path_of(const data::FolderState& state) const {
  return folder + "/" + hash_text(state.folder) + ".listing";
}

std::string ListingCache::find(const data::FolderState& state) const {
  std::error_code ignored;
  if (folder.empty() || !fs::exists(path_of(state), ignored)) return "";
  std::string content;
  const auto error = attempt([&] {
    const PositionedFile file = open_file(path_of(state));
    content.resize(file.size());
    file.read(0, std::as_writable_bytes(std::span(content)));
  });
  const std::size_t head = content.find('\n') + 1;
  const std::string_view listing = std::string_view(content).substr(head);
  if (error || content.substr(0, head) != head_of(state, listing)) {
    log::info(format("{} is listed anew: {}", state.folder,
                     error ? error->what() : path_of(state) + " is of an earlier state, or damaged"));
    return "";
  }
  log::info(format("{}: files as listed in {}", state.folder, path_of(state)));
  return content.substr(head);
}

void ListingCache::keep(const data::FolderState& state, const std::string& listing) const {
  if (folder.empty() || listing.size() < min_bytes || state.age < min_age) return;
  const auto error = attempt([&] {
    fs::create_directories(folder);
    AtomicFile file(path_of(state));
    file.write(head_of(state, listing));
    file.write(listing);
    file.commit();
  });
  if (error) log::warn(format("the listing of {} is not kept: {}", state.folder, error->what()));
}

ListingCache user_listing_cache() {
  const std::string folder = user_cache_folder();
  return {.folder = folder.empty() ? folder : folder + "/listings"};
}

}  // namespace dcs3gd::app
