#pragma once

#include <string>
#include <string_view>

namespace dcs3gd {

/// A name or text from outside (of a file, a class, a member of an archive) as it may stand in a message: one line, and
/// nothing that moves a terminal's cursor, colours it or turns the direction of writing. What is no UTF-8, and each
/// byte of such characters, becomes '?'.
std::string printable(std::string_view text);

/// The same of a text of several lines.
std::string printable_lines(std::string_view text);

}  // namespace dcs3gd
