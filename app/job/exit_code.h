#pragma once

#include <functional>

namespace dcs3gd::app {

/// A run that stopped early, after a checkpoint: start it again to continue. The other codes are those of ErrorKind.
inline constexpr int kExitStopped = 75;

/// The outermost level of every executable: makes descriptors 0 to 2 what others take them for, output that nobody
/// takes an error instead of the end, and the limit of open files as high as it may be; runs `command`, turns whatever
/// ends it into one line on standard error, and returns the exit code.
int exit_code_of(const std::function<int()>& command);

/// For commands whose output is their work: throws Error{failure} if not all that was printed could be written.
void flush_output();

}  // namespace dcs3gd::app
