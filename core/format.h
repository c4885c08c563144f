#pragma once

// The one home of {fmt}: include it in source files, not in headers (std::format needs GCC 13).
#include <fmt/format.h>

namespace dcs3gd {

using fmt::format;

}  // namespace dcs3gd
