#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace dcs3gd::data {

/// Tells whether a listing of an image folder still holds, without listing it again: adding, removing or renaming
/// images or classes changes the text; writing into an image does not.
struct FolderState {
  std::string folder;                            ///< absolute, without links
  std::string text;                              ///< names and times of the folder and its class folders
  std::chrono::system_clock::duration age = {};  ///< since the last change
};

/// Reads the state of a folder now. Labels are places in `classes`, so these belong to it. Throws Error{input} if the
/// folder cannot be read.
FolderState folder_state(const std::string& folder, const std::vector<std::string>& classes);

}  // namespace dcs3gd::data
