#include "app/programs/command_line.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string_view>
#include <system_error>

#include <CLI/CLI.hpp>

#include "app/config/configuration.h"
#include "app/config/schema.h"
#include "app/config/suggestion.h"
#include "app/config/yaml_reader.h"
#include "core/error.h"
#include "core/files.h"
#include "core/format.h"

namespace dcs3gd::app {
namespace {

constexpr const char* kDescription = "Trains convolutional networks on CPU clusters with DC-S3GD.";
constexpr const char* kUsage =
    "\nUsage:\n"
    "  dcs3gd-train --config FILE [flags]\n"
    "  mpirun -n RANKS dcs3gd-train --config FILE [flags]\n";
constexpr const char* kFooter =
    "Everything about a run is a key of its configuration: --print-config lists all keys with their meaning.\n\n"
    "Exit status: 0 done; 1 failure; 2 usage, configuration or input data; 3 diverged;\n"
    "75 stopped early after a checkpoint, run again to continue.";
constexpr std::size_t kFlagColumn = 28;

class Formatter final : public CLI::Formatter {
 public:
  Formatter() { column_width(kFlagColumn); }
  std::string make_usage(const CLI::App* /*app*/, std::string /*name*/) const override { return kUsage; }
  std::string make_option_opts(const CLI::Option* option) const override {
    const std::string value = option->get_type_name();
    return value.empty() ? "" : " " + value;
  }
};

/// The parser and the places it writes to.
struct Parser {
  Parser() : app(kDescription, "dcs3gd-train") {
    app.formatter(std::make_shared<Formatter>());
    app.footer(kFooter);
    app.allow_extras();
    app.set_help_flag();

    add_option("--config", config, "FILE", "the run; looked up as given, then among the installed configurations");
    app.add_option("--set", overrides, "override a key, such as --set optimizer.lr.base=0.4; repeatable")
        ->type_name("KEY=VALUE")
        ->allow_extra_args(false);
    resume_option = add_option("--resume", resume, "auto|never|PATH",
                               "auto: continue the earlier run of this name; never: start anew;\n"
                               "PATH: continue from that checkpoint");
    evaluate_option = add_option("--eval", evaluate, "[PATH]",
                                 "evaluate the model of the run, or the one at PATH, instead of training");
    evaluate_option->expected(0, 1);
    add_option("--predictions", predictions, "FILE.csv", "with --eval: write what the model says about each image");
    add_flag("--dry-run", dry_run, "build everything, show sizes and memory, run two steps, leave no files");
    init_config_option = add_option("--init-config", photos, "FOLDER",
                                    "look at a folder of photos and print a configuration to begin with");
    add_flag("--print-config", print_config,
             "print the effective configuration, or without --config\none of all defaults, and exit");
    add_flag("--print-keys", print_keys, "print a page of all keys and networks and exit");
    add_flag("-v,--version", version, "print the version and exit");
    add_flag("-h,--help", help, "print this text and exit");
  }

  std::vector<std::string> flags() const {
    std::vector<std::string> names;
    for (const CLI::Option* option : app.get_options()) names.push_back(option->get_name());
    return names;
  }

  CLI::App app;
  std::string config;
  std::vector<std::string> overrides;
  std::string resume;
  std::string evaluate;
  std::string predictions;
  std::string photos;
  CLI::Option* init_config_option = nullptr;
  CLI::Option* resume_option = nullptr;
  CLI::Option* evaluate_option = nullptr;
  bool dry_run = false;
  bool print_config = false;
  bool print_keys = false;
  bool version = false;
  bool help = false;

 private:
  /// All occurrences are let through: CLI11's own words for a second one are hard to understand.
  CLI::Option* add_option(const std::string& name, std::string& target, const std::string& value,
                          const std::string& description) {
    return app.add_option(name, target, description)->type_name(value)->take_last();
  }
  void add_flag(const std::string& name, bool& target, const std::string& description) {
    app.add_flag(name, target, description)->disable_flag_override()->take_last();
  }
};

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorKind::input, what + " See dcs3gd-train --help."); }

/// "--set run.epochs=3" of the flags --epochs 3 and --epochs=3 of other programs; empty if that is no key.
std::string setting_for(const std::string& flag, const std::string& value) {
  std::string word = flag.substr(std::min(flag.find_first_not_of('-'), flag.size()));
  std::ranges::replace(word, '-', '_');
  Configuration configuration;
  std::vector<std::string> keys;
  for (const Field& field : schema(configuration)) keys.push_back(field.key);
  const std::optional<std::string> key = key_called(word, keys);
  return key ? format("--set {}={}", *key, value.empty() || value.starts_with('-') ? "VALUE" : shortened(value)) : "";
}

void refuse_extra(const std::string& extra, const std::string& next, const std::vector<std::string>& flags) {
  if (extra.starts_with('-')) {
    const std::size_t equals = extra.find('=');
    const std::string flag = extra.substr(0, equals);
    const std::string setting = setting_for(flag, equals == std::string::npos ? next : extra.substr(equals + 1));
    if (!setting.empty()) refuse(format("Unknown flag {}. Write {}.", shortened(flag), setting));
    const std::string suggestion = did_you_mean(flag, flags);
    refuse(format("Unknown flag {}{}", shortened(flag), suggestion.empty() ? "." : suggestion));
  }
  const std::string flag = extra.find('=') == std::string::npos ? "--config" : "--set";
  refuse(format("Unexpected argument {}. Did you mean {} {}?", shortened(extra), flag, shortened(extra)));
}

void refuse_repetition(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_name() != "--set" && option->count() > 1) {
      refuse(format("{} is given {} times, expected once.", option->get_name(), option->count()));
    }
  }
}

/// At most one of the flags may be there; which of them says what to do.
Action action_of(const Parser& parser) {
  struct Choice {
    bool chosen;
    std::string flag;
    Action action;
  };
  const Choice choices[] = {{parser.evaluate_option->count() > 0, "--eval", Action::evaluate},
                            {parser.dry_run, "--dry-run", Action::dry_run},
                            {parser.print_config, "--print-config", Action::print_config},
                            {parser.init_config_option->count() > 0, "--init-config", Action::init_config},
                            {parser.print_keys, "--print-keys", Action::print_keys}};
  const Choice* found = nullptr;
  for (const Choice& choice : choices) {
    if (!choice.chosen) continue;
    if (found != nullptr) refuse(format("{} and {} exclude each other.", found->flag, choice.flag));
    found = &choice;
  }
  return found == nullptr ? Action::train : found->action;
}

/// The configuration of the run that a folder, a checkpoint or a file of weights belongs to; empty if there is none.
std::string config_of_run(const std::string& path) {
  namespace fs = std::filesystem;
  if (path.empty()) return "";
  std::error_code ignored;
  const fs::path given = (fs::absolute(path, ignored) / "").parent_path();
  fs::path folder = fs::is_directory(given, ignored) ? given : given.parent_path();
  if (folder.parent_path().filename() == "checkpoints") folder = folder.parent_path().parent_path();
  const fs::path config = folder / "config.yaml";
  return fs::exists(config, ignored) ? config.string() : "";
}

std::string quoted_for_shell(std::string_view argument) {
  const auto is_plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("_-./=:,@%+").find(c) != std::string_view::npos;
  };
  if (!argument.empty() && std::ranges::all_of(argument, is_plain)) return std::string(argument);
  std::string quoted = "'";
  for (const char c : argument) quoted += c == '\'' ? "'\\''" : std::string(1, c);
  return quoted + "'";
}

}  // namespace

CommandLine parse_command_line(std::span<const char* const> arguments) {
  Parser parser;
  try {
    parser.app.parse(static_cast<int>(arguments.size()), arguments.data());
  } catch (const CLI::ParseError& problem) {
    refuse(std::string(problem.what()) + ".");
  }

  CommandLine line;
  for (const char* argument : arguments) {
    line.verbatim += (line.verbatim.empty() ? "" : " ") + quoted_for_shell(argument);
  }
  if (parser.help) {
    line.action = Action::show_help;
    return line;
  }
  if (const std::vector<std::string> extras = parser.app.remaining(); !extras.empty()) {
    refuse_extra(extras.front(), extras.size() > 1 ? extras[1] : "", parser.flags());
  }
  refuse_repetition(parser.app);
  if (parser.version) {
    line.action = Action::show_version;
    return line;
  }
  line.action = action_of(parser);
  line.photos = expand_home(parser.photos);
  line.evaluate_path = expand_home(parser.evaluate);
  line.config = parser.config.empty() ? config_of_run(line.evaluate_path) : expand_home(parser.config);
  if (line.config.empty() && (line.action == Action::train || line.action == Action::dry_run)) {
    refuse("--config FILE is missing; dcs3gd-train --init-config FOLDER makes one for a folder of photos.");
  }
  if (line.config.empty() && line.action == Action::evaluate) {
    refuse("--config FILE is missing, and there is no config.yaml of a run beside the weights.");
  }
  line.overrides = parser.overrides;
  line.predictions_path = expand_home(parser.predictions);
  if (!line.predictions_path.empty() && line.action != Action::evaluate) {
    refuse("--predictions FILE.csv needs --eval.");
  }
  if (parser.resume_option->count() > 0) {
    line.resume = parser.resume == "auto"    ? ResumeMode::automatic
                  : parser.resume == "never" ? ResumeMode::never
                                             : ResumeMode::path;
    if (line.resume == ResumeMode::path) line.resume_path = expand_home(parser.resume);
  }
  return line;
}

std::string help_text() { return Parser().app.help(); }

std::vector<std::string> command_line_flags() { return Parser().flags(); }

}  // namespace dcs3gd::app
