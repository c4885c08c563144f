#pragma once

#include <string>

namespace dcs3gd::app {

/// What the linker has signed this program with, in hexadecimal: another for other sources, compilers or flags. Empty
/// if it has not.
std::string build_id();

}  // namespace dcs3gd::app
