#pragma once

#include <functional>

namespace dcs3gd::app {

/// The outermost level of every executable: runs `command`, turns whatever ends it into one line on standard error, and
/// returns the exit code.
int exit_code_of(const std::function<int()>& command);

}  // namespace dcs3gd::app
