#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace dcs3gd::data {

/// What can be known of an image folder's listing without making it. Adding, removing or renaming images or classes
/// changes the text; writing into an image does not.
struct FolderState {
  std::string folder;                            ///< absolute, without links
  std::string text;                              ///< names and times of the folder and its class folders
  std::chrono::system_clock::duration age = {};  ///< since the last change
};

/// The labels are places in `classes`, so they belong to the state. Throws Error{input} if the folder cannot be looked
/// at.
FolderState folder_state(const std::string& folder, const std::vector<std::string>& classes);

}  // namespace dcs3gd::data
