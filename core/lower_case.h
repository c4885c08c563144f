#pragma once

#include <string>

namespace dcs3gd {

/// ASCII letters made small, whatever the locale; other bytes as they are.
inline std::string lower_case(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

}  // namespace dcs3gd
