#include "data/paths.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <string_view>

#include <glob.h>

#include "core/error.h"
#include "core/files.h"
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

constexpr std::string_view kBetweenPatterns = "::";
constexpr std::size_t kMostFiles = 1'000'000;  ///< of a pattern

/// The path itself, or each part of a list of them, completed.
std::string complete_path(const std::string& path) {
  if (const std::size_t end = path.find(kBetweenPatterns); end != std::string::npos) {
    return complete_path(path.substr(0, end)) + std::string(kBetweenPatterns) +
           complete_path(path.substr(end + kBetweenPatterns.size()));
  }
  if (path.empty()) throw Error(ErrorKind::input, "data path: expected a path on both sides of ::, found none");
  const char* folder = data_folder();
  const fs::path expanded = expand_home(path);
  return fs::absolute(folder != nullptr ? expand_home(folder) / expanded : expanded).lexically_normal().string();
}

bool exists(const std::string& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

/// Whether a data set may lie there: at one of its files at least.
bool is_present(const std::string& path) { return exists(path) || std::ranges::any_of(expand_pattern(path), exists); }

/// The words of "a,b" or "000..099"; none if it is neither.
std::vector<std::string> braced_words(std::string_view inside) {
  std::vector<std::string> words;
  if (const std::size_t dots = inside.find(".."); dots != std::string_view::npos) {
    const std::string_view ends[] = {inside.substr(0, dots), inside.substr(dots + 2)};
    std::size_t numbers[2] = {};
    for (int end = 0; end < 2; ++end) {
      const char* last = ends[end].data() + ends[end].size();
      if (std::from_chars(ends[end].data(), last, numbers[end]).ptr != last || ends[end].empty()) return words;
    }
    if (numbers[1] < numbers[0] || numbers[1] - numbers[0] >= kMostFiles) return words;
    for (std::size_t number = numbers[0]; number <= numbers[1]; ++number) {
      words.push_back(format("{:0{}}", number, ends[0].size()));
    }
    return words;
  }
  for (std::size_t comma = inside.find(','); comma != std::string_view::npos; comma = inside.find(',')) {
    words.emplace_back(inside.substr(0, comma));
    inside.remove_prefix(comma + 1);
  }
  if (!words.empty()) words.emplace_back(inside);
  return words;
}

/// A pattern without :: and the files that its braces stand for.
void expand_braces(const std::string& pattern, std::vector<std::string>& into) {
  if (into.size() > kMostFiles) throw Error(ErrorKind::input, format("{}: more than {} files", pattern, kMostFiles));
  for (std::size_t open = pattern.find('{'); open != std::string::npos; open = pattern.find('{', open + 1)) {
    const std::size_t close = pattern.find('}', open);
    if (close == std::string::npos) break;
    const std::vector<std::string> words = braced_words(std::string_view(pattern).substr(open + 1, close - open - 1));
    for (const std::string& word : words) {
      expand_braces(pattern.substr(0, open) + word + pattern.substr(close + 1), into);
    }
    if (!words.empty()) return;
  }
  into.push_back(pattern);
}

/// What is there of a pattern with wildcards; a path without stands for itself.
void expand_wildcards(const std::string& pattern, std::vector<std::string>& into) {
  if (pattern.find_first_of("*?[") == std::string::npos || exists(pattern)) return into.push_back(pattern);
  glob_t found{};
  if (::glob(pattern.c_str(), 0, nullptr, &found) == 0)
    into.insert(into.end(), found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
}

const std::string& configured_path(const DataOptions& options, Part part) {
  return part == Part::train || options.split > 0 ? options.train : options.eval;
}

}  // namespace

std::vector<std::string> expand_pattern(const std::string& pattern) {
  if (exists(pattern)) return {pattern};
  std::vector<std::string> files;
  std::string_view rest = pattern;
  while (true) {
    const std::size_t end = std::min(rest.find(kBetweenPatterns), rest.size());
    std::vector<std::string> patterns;
    expand_braces(std::string(rest.substr(0, end)), patterns);
    for (const std::string& one : patterns) expand_wildcards(one, files);
    if (end == rest.size()) return files;
    rest.remove_prefix(end + kBetweenPatterns.size());
  }
}

std::string resolve_data_path(const std::string& path) {
  std::string complete = complete_path(path);
  if (is_present(complete)) return complete;
  const char* folder = data_folder();
  const std::string reason = fs::path(path).is_absolute() ? "the path is absolute"
                             : folder != nullptr
                                 ? format("{} is '{}'", kDataFolderVariable, folder)
                                 : format("{} is not set: relative to the current folder", kDataFolderVariable);
  throw Error(
      ErrorKind::input,
      format("data path '{}': nothing found at {} ({}); correct the path, or set {} to the folder that holds the "
             "data sets",
             path, complete, reason, kDataFolderVariable));
}

std::string part_path(const DataOptions& options, Part part) {
  const std::string& path = configured_path(options, part);
  if (path.empty()) {
    throw Error(ErrorKind::input,
                format("data.{}: expected the path of the data set, found none; set it, or use data.format: synthetic",
                       &path == &options.train ? "train" : "eval"));
  }
  return resolve_data_path(path);
}

bool has_part(const DataOptions& options, Part part) {
  const std::string& path = configured_path(options, part);
  return !path.empty() && is_present(complete_path(path));
}

}  // namespace dcs3gd::data
