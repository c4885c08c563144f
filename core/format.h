#pragma once

// The one home of {fmt}: include it in source files, not in headers (std::format needs GCC 13).
#include <concepts>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace dcs3gd {

/// fmt::format, as an object: where the standard library has std::format, too, a call with a std::string would find
/// both functions.
struct Format {
  template <typename... Values>
  std::string operator()(fmt::format_string<Values...> text, Values&&... values) const {
    return fmt::format(text, std::forward<Values>(values)...);
  }
};
inline constexpr Format format;  // NOLINT(readability-identifier-naming): called as a function

/// "1 rank", "2 ranks"
template <std::integral Count>
std::string counted(Count count, std::string_view noun) {
  return format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

}  // namespace dcs3gd
