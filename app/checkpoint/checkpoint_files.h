#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "app/model/safetensors.h"
#include "app/rules/update_rule.h"
#include "core/files.h"

/// What the folder of a checkpoint and the files in it are called, for those who write and those who read them.
namespace dcs3gd::app {

constexpr const char* kManifestFile = "manifest.json";
constexpr const char* kModelFile = "model.safetensors";
constexpr const char* kSharedFile = "shared.state";
constexpr const char* kAverageFile = "average.state";     ///< of the weights over steps, where there is one
constexpr const char* kStatisticsPrefix = "statistics.";  ///< of the running statistics in a worker's file

/// The name of a checkpoint's folder: step-00001234.
std::string checkpoint_name(std::int64_t step);
/// The step in that name; none for any other name, such as that of an unfinished one.
std::optional<std::int64_t> step_of_checkpoint(const std::string& name);
/// worker-00003.state
std::string worker_file(int worker);
/// rank-00003.state
std::string rank_file(int rank);

/// The steps there are checkpoints of, the newest first.
std::vector<std::int64_t> checkpoint_steps(const std::string& folder);
/// The paths of what unfinished checkpoints have left.
std::vector<std::string> unfinished_checkpoints(const std::string& folder);

/// The state's arrays as parts of a file, with their names as prefixes.
template <typename Arena>
std::vector<ArenaPart<Arena>> parts_of(const std::vector<StateArray>& arrays) {
  std::vector<ArenaPart<Arena>> parts;
  parts.reserve(arrays.size());
  for (const StateArray& array : arrays) parts.emplace_back(array.values, array.name + ".");
  return parts;
}

}  // namespace dcs3gd::app
