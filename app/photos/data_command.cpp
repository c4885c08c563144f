#include "app/photos/data_command.h"

#include <string>
#include <thread>

#include <CLI/CLI.hpp>

#include "app/job/exit_code.h"
#include "app/photos/index_tars.h"
#include "app/photos/inspect_photos.h"
#include "app/photos/prepare_shards.h"
#include "app/record/progress.h"
#include "core/error.h"
#include "core/format.h"
#include "core/log.h"
#include "core/version.h"

namespace dcs3gd::app {

int run_data_command(int argc, const char* const* argv) {
  CLI::App parser("Packs, shows and checks data sets of photos.", "dcs3gd-data");
  parser.require_subcommand(1);
  parser.set_version_flag("-v,--version", format("dcs3gd-data {}", kVersion));
  int threads = static_cast<int>(std::max(std::thread::hardware_concurrency(), 1U));
  const auto add_threads = [&](CLI::App* command, const char* what) {
    command->add_option("--threads", threads, what)->check(CLI::Range(1, 1024))->capture_default_str();
  };

  PrepareOptions prepare;
  std::uint64_t shard_megabytes = prepare.shard_bytes >> 20;
  CLI::App* prepare_command =
      parser.add_subcommand("prepare", "pack FOLDER/<class>/*.jpg|png, or its parts train and val, into shards");
  prepare_command->add_option("input", prepare.input, "the image folder")->required();
  prepare_command->add_option("output", prepare.output, "the folder of shards, made if need be")->required();
  prepare_command->add_option("--shard-mb", shard_megabytes, "size of a shard in MiB")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  CLI::Option* max_side =
      prepare_command->add_option("--max-side", prepare.max_side, "shrink images whose longer side has more pixels")
          ->check(CLI::Range(1, 65500));
  prepare_command->add_option("--quality", prepare.quality, "JPEG quality of shrunk images")
      ->check(CLI::Range(1, 100))
      ->needs(max_side)
      ->capture_default_str();
  add_threads(prepare_command, "shards written at a time");

  std::string path;
  CLI::App* index_command = parser.add_subcommand(
      "index", "note where the images of FOLDER/*.tar (WebDataset's form) lie, in NAME.tar.index");
  index_command->add_option("path", path, "the folder")->required();
  add_threads(index_command, "tar files read at a time");
  CLI::App* inspect_command = parser.add_subcommand("inspect", "show what an image folder or shards hold");
  inspect_command->add_option("path", path, "the folder")->required();
  CLI::App* verify_command = parser.add_subcommand("verify", "decode every image; name those that cannot be read");
  verify_command->add_option("path", path, "the folder")->required();
  add_threads(verify_command, "images decoded at a time");

  try {
    parser.parse(argc, argv);
  } catch (const CLI::Success& asked) {  // for help or the version
    return parser.exit(asked);
  } catch (const CLI::ParseError& error) {
    throw Error(ErrorKind::input, format("dcs3gd-data: {}; see dcs3gd-data --help", error.what()));
  }
  log::open({.file = {}, .status_line = resolve_progress_style(ProgressStyle::automatic) == ProgressStyle::bar});
  prepare.shard_bytes = shard_megabytes << 20;
  prepare.threads = threads;
  if (prepare_command->parsed()) prepare_shards(prepare);
  if (index_command->parsed()) index_tars(path, threads);
  if (inspect_command->parsed()) inspect_photos(path);
  if (verify_command->parsed()) verify_photos(path, threads);
  flush_output();
  return 0;
}

}  // namespace dcs3gd::app
