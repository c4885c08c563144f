#pragma once

#include <string>

namespace dcs3gd::app {

/// A commented configuration to begin with, for the photos in a folder: class folders, with or without parts, or
/// shards. Network, size, batch and epochs follow from how many photos there are and how large; without a part to
/// evaluate on, a fifth of each class is kept for that. Throws Error{input} for a folder that cannot be trained on.
std::string first_configuration(const std::string& folder);

}  // namespace dcs3gd::app
