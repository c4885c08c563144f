#pragma once

#include <string>

namespace dcs3gd::app {

/// A page in Markdown: every key of the configuration with its default, values and meaning, and the networks that
/// model.name knows. Made of what the program itself reads.
std::string key_tables();

}  // namespace dcs3gd::app
