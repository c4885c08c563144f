#include "data/paths.h"

#include <cstdlib>
#include <filesystem>

#include "core/error.h"
#include "core/format.h"

namespace dcs3gd::data {
namespace {

namespace fs = std::filesystem;

constexpr const char* kDataFolderVariable = "DCS3GD_DATA";

/// None if the variable is not set or empty.
const char* data_folder() {
  const char* folder = std::getenv(kDataFolderVariable);
  return folder != nullptr && *folder != '\0' ? folder : nullptr;
}

fs::path complete_path(const std::string& path) {
  const char* folder = data_folder();
  return fs::absolute(folder != nullptr ? fs::path(folder) / path : fs::path(path)).lexically_normal();
}

const std::string& configured_path(const DataOptions& options, Part part) {
  return part == Part::train ? options.train : options.eval;
}

}  // namespace

std::string resolve_data_path(const std::string& path) {
  const fs::path complete = complete_path(path);
  std::error_code ignored;
  if (fs::exists(complete, ignored)) return complete.string();
  const char* folder = data_folder();
  const std::string reason = fs::path(path).is_absolute() ? "the path is absolute"
                             : folder != nullptr
                                 ? format("{} is '{}'", kDataFolderVariable, folder)
                                 : format("{} is not set: relative to the current folder", kDataFolderVariable);
  throw Error(
      ErrorKind::input,
      format("data path '{}': nothing found at {} ({}); correct the path, or set {} to the folder that holds the "
             "data sets",
             path, complete.string(), reason, kDataFolderVariable));
}

std::string part_path(const DataOptions& options, Part part) {
  const std::string& path = configured_path(options, part);
  if (path.empty()) {
    throw Error(ErrorKind::input,
                format("data.{}: expected the path of the data set, found none; set it, or use data.format: synthetic",
                       part == Part::train ? "train" : "eval"));
  }
  return resolve_data_path(path);
}

bool has_part(const DataOptions& options, Part part) {
  const std::string& path = configured_path(options, part);
  std::error_code ignored;
  return !path.empty() && fs::exists(complete_path(path), ignored);
}

}  // namespace dcs3gd::data
