#pragma once

namespace dcs3gd::app {

/// `dcs3gd-data`: reads the arguments, does what they ask, returns the exit code. Throws Error.
int run_data_command(int argc, const char* const* argv);

}  // namespace dcs3gd::app
