#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "app/train/resume.h"

namespace dcs3gd::app {

/// What `dcs3gd-train` is asked to do.
enum class Action { train, evaluate, dry_run, print_config, init_config, print_keys, show_version, show_help };

struct CommandLine {
  Action action = Action::train;
  std::string config;                  ///< --config, as given; empty: all defaults, with print_config alone
  std::vector<std::string> overrides;  ///< --set, KEY=VALUE, in their order
  std::optional<ResumeMode> resume;    ///< none: --resume was not given
  std::string resume_path;
  std::string evaluate_path;     ///< weights or checkpoint of --eval; empty: the run's own
  std::string predictions_path;  ///< of --predictions; empty: none
  std::string photos;            ///< the folder of --init-config
  std::string verbatim;          ///< the whole line, quoted so that a shell reads it back
};

/// Reads the arguments, the program's name first. Throws Error{input}: one line that says what is wrong, and a hint.
CommandLine parse_command_line(std::span<const char* const> arguments);

/// The text of --help.
std::string help_text();

/// All flags, in the order of the help.
std::vector<std::string> command_line_flags();

}  // namespace dcs3gd::app
