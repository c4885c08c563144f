#include "core/printable.h"

#include <cstddef>
#include <cstdint>

namespace dcs3gd {
namespace {

struct Character {
  char32_t code = 0;
  std::size_t bytes = 0;  ///< 0: no UTF-8
};

/// The character that the text begins with.
Character first_of(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  if (byte(0) < 0x80) return {byte(0), 1};
  const std::size_t bytes = byte(0) >= 0xF0 ? 4 : byte(0) >= 0xE0 ? 3 : 2;
  if (byte(0) < 0xC2 || byte(0) > 0xF4 || text.size() < bytes) return {};
  char32_t code = byte(0) & (0x7FU >> bytes);
  for (std::size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {};
    code = (code << 6) | (byte(i) & 0x3FU);
  }
  constexpr char32_t kLeastOf[] = {0, 0, 0x80, 0x800, 0x10000};
  return code < kLeastOf[bytes] || code > 0x10FFFF ? Character() : Character{code, bytes};
}

bool is_control(char32_t code) {
  const auto is_in = [&](char32_t first, char32_t last) { return code >= first && code <= last; };
  return is_in(0, 0x1F) || is_in(0x7F, 0x9F) || is_in(0x2028, 0x202E) || is_in(0x2066, 0x2069) ||
         is_in(0x200B, 0x200F) || is_in(0xD800, 0xDFFF) || code == 0xFEFF;
}

std::string shown(std::string_view text, bool keeps_line_breaks) {
  std::string safe;
  safe.reserve(text.size());
  while (!text.empty()) {
    const Character next = first_of(text);
    const bool is_kept = next.bytes > 0 && (!is_control(next.code) || (keeps_line_breaks && next.code == '\n'));
    const std::size_t bytes = next.bytes > 0 ? next.bytes : 1;
    safe += is_kept ? text.substr(0, bytes) : std::string_view("????").substr(0, bytes);
    text.remove_prefix(bytes);
  }
  return safe;
}

}  // namespace

std::string printable(std::string_view text) { return shown(text, false); }

std::string printable_lines(std::string_view text) { return shown(text, true); }

}  // namespace dcs3gd
