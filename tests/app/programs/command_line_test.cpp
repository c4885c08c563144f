#include "app/programs/command_line.h"

#include <filesystem>
#include <initializer_list>

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/support/file_helpers.h"
#include "tests/support/temporary_folder.h"

using namespace dcs3gd::app;
namespace test = dcs3gd::test;
using dcs3gd::Error;
using dcs3gd::ErrorKind;

namespace {

CommandLine parse(std::initializer_list<const char*> flags) {
  std::vector<const char*> arguments = {"dcs3gd-train"};
  arguments.insert(arguments.end(), flags);
  return parse_command_line(arguments);
}

/// The message of the usage error; empty if there is none.
std::string problem(std::initializer_list<const char*> flags) {
  try {
    parse(flags);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("the flags are a contract: new knobs are keys of the configuration, not flags") {
  CHECK(command_line_flags() == std::vector<std::string>{"--config", "--set", "--resume", "--eval", "--predictions",
                                                         "--dry-run", "--init-config", "--print-config", "--print-keys",
                                                         "--version", "--help"});
}

TEST_CASE("a plain run") {
  const CommandLine line = parse({"--config", "tiny.yaml"});
  CHECK(line.action == Action::train);
  CHECK(line.config == "tiny.yaml");
  CHECK(line.overrides.empty());
  CHECK_FALSE(line.resume.has_value());
  CHECK(line.verbatim == "dcs3gd-train --config tiny.yaml");
}

TEST_CASE("overrides are kept as they are, in their order") {
  const CommandLine line =
      parse({"--set", "a.b=1", "--config=x", "--set=c=[1, 2]", "--set", "d={e: -1}", "--set", "a.b="});
  CHECK(line.config == "x");
  CHECK(line.overrides == std::vector<std::string>{"a.b=1", "c=[1, 2]", "d={e: -1}", "a.b="});
}

TEST_CASE("what to do") {
  CHECK(parse({"--config", "x", "--dry-run"}).action == Action::dry_run);
  CHECK(parse({"--config", "x", "--print-config"}).action == Action::print_config);
  CHECK(parse({"--print-config"}).action == Action::print_config);
  CHECK(parse({"--print-keys"}).action == Action::print_keys);
  CHECK(parse({"--init-config", "photos"}).photos == "photos");
  CHECK(parse({"--version"}).action == Action::show_version);
  CHECK(parse({"--help"}).action == Action::show_help);
  CHECK(parse({"--help", "--whatever", "--dry-run"}).action == Action::show_help);
}

TEST_CASE("--eval has an optional path") {
  const CommandLine own = parse({"--eval", "--config", "x"});
  CHECK(own.action == Action::evaluate);
  CHECK(own.evaluate_path.empty());
  CHECK(own.config == "x");
  CHECK(parse({"--config", "x", "--eval"}).evaluate_path.empty());
  CHECK(parse({"--config", "x", "--eval", "m.safetensors"}).evaluate_path == "m.safetensors");
  CHECK(parse({"--config", "x", "--eval=m.safetensors"}).evaluate_path == "m.safetensors");
}

TEST_CASE("a run's folder brings its configuration to --eval") {
  const test::TemporaryFolder folder;
  const std::string run = folder / "run";
  std::filesystem::create_directories(run + "/checkpoints/step-00000001");
  CHECK(problem({"--eval", run.c_str()}).starts_with("--config FILE is missing, and there is no config.yaml"));
  test::write_file(run + "/config.yaml", "{}");
  const std::string config = run + "/config.yaml";
  for (const char* below : {"", "/", "/best.safetensors", "/checkpoints/step-00000001"}) {
    CHECK(parse({"--eval", (run + below).c_str()}).config == config);
  }
  CHECK(parse({"--config", "x", "--eval", run.c_str()}).config == "x");
}

TEST_CASE("flags of other programs lead to their keys") {
  CHECK(problem({"--config", "a", "--epochs", "3"}) ==
        "Unknown flag --epochs. Write --set run.epochs=3. See dcs3gd-train --help.");
  CHECK(problem({"--config", "a", "--batch-size=32"}) ==
        "Unknown flag --batch-size. Write --set algorithm.batch_per_worker=32. See dcs3gd-train --help.");
  CHECK(problem({"--config", "a", "-j", "4"}) ==
        "Unknown flag -j. Write --set data.loader.threads=4. See dcs3gd-train --help.");
  CHECK(problem({"--config", "a", "--pretrained"}) ==
        "Unknown flag --pretrained. Write --set model.init=VALUE. See dcs3gd-train --help.");
}

TEST_CASE("--predictions goes with --eval") {
  CHECK(parse({"--config", "x", "--eval", "--predictions", "p.csv"}).predictions_path == "p.csv");
  CHECK(problem({"--config", "x", "--predictions", "p.csv"}) ==
        "--predictions FILE.csv needs --eval. See dcs3gd-train --help.");
  CHECK(problem({"--config", "x", "--eval", "--predictions"}) ==
        "--predictions: 1 required FILE.csv missing. See dcs3gd-train --help.");
}

TEST_CASE("--resume has a mode or a path") {
  CHECK(parse({"--config", "x", "--resume", "auto"}).resume == ResumeMode::automatic);
  CHECK(parse({"--config", "x", "--resume", "never"}).resume == ResumeMode::never);
  const CommandLine line = parse({"--config", "x", "--resume", "runs/a/checkpoints/step-00000010"});
  CHECK(line.resume == ResumeMode::path);
  CHECK(line.resume_path == "runs/a/checkpoints/step-00000010");
}

TEST_CASE("the command line is kept so that a shell reads it back") {
  CHECK(parse({"--config", "a b", "--set", "run.name=it's", "--set", "x=[1]", "--set", ""}).verbatim ==
        "dcs3gd-train --config 'a b' --set 'run.name=it'\\''s' --set 'x=[1]' --set ''");
}

TEST_CASE("usage errors say what is wrong in one line") {
  CHECK(
      problem({}) ==
      "--config FILE is missing; dcs3gd-train --init-config FOLDER makes one for a folder of photos. See dcs3gd-train "
      "--help.");
  CHECK(
      problem({"--dry-run"}) ==
      "--config FILE is missing; dcs3gd-train --init-config FOLDER makes one for a folder of photos. See dcs3gd-train "
      "--help.");
  CHECK(problem({"--config"}) == "--config: 1 required FILE missing. See dcs3gd-train --help.");
  CHECK(problem({"--config", "a", "--config", "b"}) ==
        "--config is given 2 times, expected once. See dcs3gd-train --help.");
  CHECK(problem({"--config", "a", "--resume", "auto", "--resume", "never"}) ==
        "--resume is given 2 times, expected once. See dcs3gd-train --help.");
  CHECK(problem({"--config", "a", "--set"}) == "--set: 1 required KEY=VALUE missing. See dcs3gd-train --help.");
  CHECK(problem({"--config", "a", "--set", "x=1", "y=2"}) ==
        "Unexpected argument y=2. Did you mean --set y=2? See dcs3gd-train --help.");
  CHECK(problem({"tiny.yaml"}) ==
        "Unexpected argument tiny.yaml. Did you mean --config tiny.yaml? See dcs3gd-train --help.");
  CHECK(problem({"--confg", "a"}) == "Unknown flag --confg. Did you mean --config? See dcs3gd-train --help.");
  CHECK(problem({"--config", "a", "--dryrun"}) ==
        "Unknown flag --dryrun. Did you mean --dry-run? See dcs3gd-train --help.");
  CHECK(problem({"--config", "a", "--print_config=x"}) ==
        "Unknown flag --print_config. Did you mean --print-config? See dcs3gd-train --help.");
  CHECK(problem({"--config", "a", "--quick"}) == "Unknown flag --quick. See dcs3gd-train --help.");
  CHECK(problem({"--version", "--quick"}) == "Unknown flag --quick. See dcs3gd-train --help.");
  CHECK(problem({"--config", "a", "--eval", "--dry-run"}) ==
        "--eval and --dry-run exclude each other. See dcs3gd-train --help.");
  CHECK(problem({"--config", "a", "--dry-run", "--print-config"}) ==
        "--dry-run and --print-config exclude each other. See dcs3gd-train --help.");
}

TEST_CASE("the help names every flag and the exit codes") {
  const std::string help = help_text();
  for (const std::string& flag : command_line_flags()) CHECK(help.find(flag + " ") != std::string::npos);
  CHECK(help.find("Usage:\n  dcs3gd-train --config FILE") != std::string::npos);
  CHECK(help.find("--set KEY=VALUE  ") != std::string::npos);
  CHECK(help.find("75 stopped early") != std::string::npos);
}
