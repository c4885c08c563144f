#pragma once

#include <chrono>
#include <cstddef>
#include <string>

#include "data/photos/folder_state.h"

namespace dcs3gd::app {

/// Listings of image folders, one file for each folder. A file holds hashes of the folder's state and of the listing:
/// one that is stale or damaged counts as absent. The files may be removed at any time. Nothing here is an error: what
/// does not work is said in the log, and the folder is listed again.
struct ListingCache {
  std::string folder;  ///< where the files are; empty: nothing is kept
  /// Shorter listings are made faster than they are looked after: about 10,000 photos.
  std::size_t min_bytes = std::size_t{512} * 1024;
  /// File systems tell times to a tick of theirs, up to two seconds: a folder may have changed after it was listed and
  /// not show it if its last change is younger than this.
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
