#pragma once

#include "app/programs/command_line.h"

namespace dcs3gd::app {

/// Does what the command line asks for and returns the exit code. Errors in what was asked for are thrown before
/// anything starts; later ones end all ranks.
int run_train_command(const CommandLine& command_line);

}  // namespace dcs3gd::app
