#include "data/photos/folder_state.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include <sys/stat.h>

#include "core/error.h"
#include "core/format.h"
#include "data/photos/image_folder.h"

namespace dcs3gd::data {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse(const fs::path& path, const std::error_code& reason) {
  throw Error(ErrorKind::input, format("{}: {}", path.string(), reason.message()));
}

std::chrono::nanoseconds time_of(const timespec& time) {
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

}  // namespace

FolderState folder_state(const std::string& folder, const std::vector<std::string>& classes) {
  std::error_code error;
  FolderState state{.folder = fs::canonical(folder, error).string(), .text = {}};
  if (error) refuse(folder, error);
  std::chrono::nanoseconds newest{0};
  const auto add = [&](const fs::path& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) refuse(path, std::error_code(errno, std::generic_category()));
    // Only the system sets the second: a tool that restores the first is noticed all the same.
    const std::chrono::nanoseconds modified = time_of(status.st_mtim);
    const std::chrono::nanoseconds changed = time_of(status.st_ctim);
    newest = std::max({newest, modified, changed});
    state.text += format("{} {} {}", modified.count(), changed.count(), path.filename().string());
    state.text += '\0';
  };
  add(state.folder);
  for (const std::string& name : list_classes(folder)) add(fs::path(state.folder) / name);
  for (const std::string& name : classes) state.text += name + '\0';  // they decide the labels
  state.age = std::chrono::system_clock::now().time_since_epoch() -
              std::chrono::duration_cast<std::chrono::system_clock::duration>(newest);
  return state;
}

}  // namespace dcs3gd::data
