#pragma once

#include <string>

namespace dcs3gd::app {

/// `dcs3gd-data inspect`: prints what an image folder or a folder of shards holds, for both parts if it has them.
void inspect_photos(const std::string& path);

/// `dcs3gd-data verify`: fetches and decodes every image in full. Names each that training could not read; if there is
/// one, an Error{input} says how many.
void verify_photos(const std::string& path, int threads);

}  // namespace dcs3gd::app
