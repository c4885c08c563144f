#pragma once

// The one home of {fmt}: include it in source files, not in headers (std::format needs GCC 13).
#include <concepts>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace dcs3gd {

using fmt::format;

/// "1 rank", "2 ranks"
template <std::integral Count>
std::string counted(Count count, std::string_view noun) {
  return format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

}  // namespace dcs3gd
