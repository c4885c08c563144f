#pragma once

#include <span>
#include <string_view>

namespace dcs3gd::app {

/// A file of configs/networks as it was when the program was built.
struct BuiltInNetwork {
  std::string_view name;
  std::string_view text;
};

/// All of them, in the order of their names, numbers by value.
std::span<const BuiltInNetwork> built_in_networks();

}  // namespace dcs3gd::app
