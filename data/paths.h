#pragma once

#include <string>
#include <vector>

#include "data/options.h"

/// Where the parts of a data set lie.
namespace dcs3gd::data {

/// The files that a pattern stands for, in its order: {000..099} and {a,b} count up, * ? [ ] stand for what is there,
/// in the order of the names, :: stands between patterns. A path without any of these stands for itself, as does one
/// that exists as it is.
std::vector<std::string> expand_pattern(const std::string& pattern);

/// The absolute form of a path of the configuration: a relative one is looked for under the folder that the environment
/// variable DCS3GD_DATA names if it is set, else in the current folder. A pattern stays one. Throws Error{input} if
/// nothing is there.
std::string resolve_data_path(const std::string& path);

/// The resolved path of a part. Throws Error{input} if the options name none, or nothing is there.
std::string part_path(const DataOptions& options, Part part);

/// Whether the options name a path for the part and something is there.
bool has_part(const DataOptions& options, Part part);

}  // namespace dcs3gd::data
