#pragma once

#include <functional>

namespace dcs3gd::app {

/// A run that stopped early, after a checkpoint: start it again to continue. The other codes are those of ErrorKind.
inline constexpr int kExitStopped = 75;

/// The outermost level of every executable: raises the limit of open files, runs `command`, turns whatever ends it into
/// one line on standard error, and returns the exit code.
int exit_code_of(const std::function<int()>& command);

}  // namespace dcs3gd::app
