#pragma once

#include <chrono>
#include <cstddef>
#include <string>

#include "data/photos/folder_state.h"

namespace dcs3gd::app {

/// Keeps listings of image folders, one file for each folder. A file holds hashes of the folder's state and of the
/// listing: one that is stale or damaged counts as absent. The files may be removed at any time. Nothing here is an
/// error: what does not work is said in the log, and the folder is listed again.
struct ListingCache {
  std::string folder;  ///< where the files are; empty: nothing is kept
  /// Below this size, about 10,000 photos, listing again is cheaper than caching.
  std::size_t min_bytes = std::size_t{512} * 1024;
  /// File systems keep times in steps of up to two seconds: a folder whose last change is younger than this may change
  /// again after it was listed and not show it.
  std::chrono::seconds min_age{10};

  /// The listing of a folder in this state; empty if there is none.
  std::string find(const data::FolderState& state) const;
  /// Keeps a listing that was begun in this state.
  void keep(const data::FolderState& state, const std::string& listing) const;

 private:
  std::string path_of(const data::FolderState& state) const;
};

/// The user's: listings in user_cache_folder() (core/files.h).
ListingCache user_listing_cache();

}  // namespace dcs3gd::app
