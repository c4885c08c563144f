#include "app/checkpoint/checkpoint_files.h"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <optional>
#include <string_view>
#include <system_error>

#include "core/format.h"

namespace dcs3gd::app {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "step-";
constexpr std::size_t kStepDigits = 8;  // at least

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  return names;
}

}  // namespace

std::string checkpoint_name(std::int64_t step) { return format("{}{:0{}}", kPrefix, step, kStepDigits); }

std::optional<std::int64_t> step_of_checkpoint(const std::string& name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  const std::string digits = name.substr(kPrefix.size());
  const bool is_number = digits.size() >= kStepDigits && digits.size() <= 18 &&
                         digits.find_first_not_of("0123456789") == std::string::npos;
  return is_number ? std::optional(std::stoll(digits)) : std::nullopt;
}

std::string worker_file(int worker) { return format("worker-{:05}.state", worker); }
std::string rank_file(int rank) { return format("rank-{:05}.state", rank); }

std::vector<std::int64_t> checkpoint_steps(const std::string& folder) {
  std::vector<std::int64_t> steps;
  for (const std::string& name : names_in(folder)) {
    if (const auto step = step_of_checkpoint(name)) steps.push_back(*step);
  }
  std::ranges::sort(steps, std::greater());
  return steps;
}

std::vector<std::string> unfinished_checkpoints(const std::string& folder) {
  std::vector<std::string> paths;
  for (const std::string& name : names_in(folder)) {
    if (name.starts_with(kPrefix) && name.ends_with(kUnfinishedSuffix)) paths.push_back(format("{}/{}", folder, name));
  }
  return paths;
}

}  // namespace dcs3gd::app
