#include "app/bench/bench_command.h"

#include <iterator>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "app/bench/benchmarks.h"
#include "app/job/exit_code.h"
#include "app/rules/table.h"
#include "core/error.h"
#include "core/format.h"
#include "core/version.h"

namespace dcs3gd::app {
namespace {

const std::map<std::string, nn::Precision> kPrecisions{{"fp32", nn::Precision::fp32}, {"bf16", nn::Precision::bf16}};

std::vector<std::string> rule_names() {
  std::vector<std::string> names;
  for (const RuleInfo& rule : rules()) names.push_back(rule.name);
  return names;
}

}  // namespace

int run_bench_command(int argc, const char* const* argv) {
  CLI::App parser("Measures what this machine or cluster can do, beside the limit that physics or the rival sets.");
  parser.require_subcommand(1);
  parser.set_version_flag("-v,--version", format("dcs3gd-bench {}", kVersion));

  const auto add_number = [](CLI::App* command, const char* name, auto& value, const char* what) {
    return command->add_option(name, value, what)->check(CLI::PositiveNumber);
  };

  NnBenchOptions nn;
  CLI::App* nn_command =
      parser.add_subcommand("nn", "training steps, or evaluation, of a model against its convolutions alone");
  nn_command->add_option("--model", nn.model, "model, as in model.name")->capture_default_str();
  add_number(nn_command, "--batch", nn.batch, "images per step")->capture_default_str();
  nn_command->add_option("--precision", nn.precision, "fp32 or bf16 (default: fp32)")
      ->transform(CLI::CheckedTransformer(kPrecisions));
  nn_command->add_flag("--evaluate", nn.evaluate, "evaluation, as of --eval and dcs3gd-predict, instead of training");
  nn_command->add_flag("--direct", nn.direct, "no Winograd convolutions");
  add_number(nn_command, "--threads", nn.threads, "OpenMP threads (default: all)");
  add_number(nn_command, "--image-size", nn.image_size, "pixels (default: the model's own)");
  add_number(nn_command, "--steps", nn.steps, "measured steps")->capture_default_str();
  nn_command->add_flag("--json", nn.json, "one JSON object a line");

  CommBenchOptions comm;
  CLI::App* comm_command = parser.add_subcommand("comm", "our ring against MPI_Allreduce, by size; run under mpirun");
  comm_command->add_option("--max-floats", comm.max_floats, "largest array")
      ->check(CLI::Range(kSmallestCommSize, std::numeric_limits<std::size_t>::max()))
      ->capture_default_str();
  add_number(comm_command, "--seconds-per-size", comm.seconds_per_size, "time to spend")->capture_default_str();
  comm_command->add_flag("--update", comm.update, "each with the update that reads the averages, and that alone");
  comm_command->add_flag("--json", comm.json, "one JSON object a line");

  StepBenchOptions step;
  CLI::App* step_command =
      parser.add_subcommand("step", "training steps with and without communication; run under mpirun");
  step_command->add_option("--model", step.model, "model, as in model.name")->capture_default_str();
  add_number(step_command, "--batch", step.batch, "images per worker")->capture_default_str();
  add_number(step_command, "--image-size", step.image_size, "pixels (default: the model's own)");
  step_command->add_option("--algorithm", step.algorithm, "update rule, as in algorithm.name")
      ->check(CLI::IsMember(rule_names()))
      ->capture_default_str();
  step_command->add_option("--fresh", step.fresh, "share of the parameters that is never stale, as in algorithm.fresh")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  std::vector<std::string> wires;
  wires.reserve(std::size(comm::kWires));
  for (const comm::WireInfo& info : comm::kWires) wires.emplace_back(info.name);
  step_command->add_option("--wire", step.wire, "as in comm.wire")->check(CLI::IsMember(wires))->capture_default_str();
  add_number(step_command, "--threads", step.threads, "OpenMP threads per rank (default: the rank's cores)");
  add_number(step_command, "--rounds", step.rounds, "rounds of steps with and without communication")
      ->capture_default_str();
  add_number(step_command, "--steps", step.steps, "steps of a round")->capture_default_str();
  step_command->add_option("--pause-ms", step.pause_ms, "pause of every step, as if it computed longer")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  step_command->add_option("--jitter", step.jitter, "mean of a random part of the pause beside it")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  step_command->add_option("--slow-rank", step.slow_rank, "rank 0 pauses this many times as long")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  step_command->add_flag("--json", step.json, "one JSON object a line");

  ScaleBenchOptions scale;
  CLI::App* scale_command = parser.add_subcommand(
      "scale", "predicts training on many hosts from this machine and a network; measures the latter under mpirun");
  const auto add_least = [scale_command](const char* name, auto& value, double least, const char* what) {
    return scale_command->add_option(name, value, what)
        ->check(CLI::Range(least, std::numeric_limits<double>::max()))
        ->capture_default_str();
  };
  scale_command->add_option("--model", scale.model, "model, as in model.name")->capture_default_str();
  add_number(scale_command, "--batch", scale.batch, "images per rank")->capture_default_str();
  add_number(scale_command, "--image-size", scale.image_size, "pixels (default: the model's own)");
  add_number(scale_command, "--threads", scale.threads, "OpenMP threads of the measured steps (default: all cores)");
  add_number(scale_command, "--steps", scale.steps, "measured steps")->capture_default_str();
  add_number(scale_command, "--compute-ms", scale.compute_ms, "of a step (default: measured, with its variation)");
  add_least("--pause-ms", scale.pause_ms, 0, "pause before every step, as if it waited for images");
  add_least("--jitter", scale.jitter, 0, "mean of a random delay of every step, as a part of it");
  scale_command->add_option("--straggler-share", scale.straggler_share, "share of all steps that take longer")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  add_least("--straggler-factor", scale.straggler_factor, 1, "by this factor");
  add_number(scale_command, "--slow-rank", scale.slow_rank, "rank 0's steps take so many times as long")
      ->capture_default_str();
  std::vector<std::string> networks;
  for (const NetworkPreset& preset : network_presets()) networks.emplace_back(preset.name);
  scale_command->add_option("--network", scale.network, "a kind of network (default: measured)")
      ->check(CLI::IsMember(networks));
  add_least("--latency-us", scale.latency_us, 0, "of a message between two hosts");
  add_number(scale_command, "--gbit-s", scale.gbit_s, "of a host's link, each way");
  add_least("--message-us", scale.message_us, 0, "of the processor for each message");
  add_least("--buffer-kib", scale.buffer_kib, 0, "that the system takes at once of what is sent, such as a socket");
  add_number(scale_command, "--sum-gb-s", scale.sum_gb_s, "of summing what comes (default: measured)");
  std::vector<std::string> schedules;
  for (const comm::AlgorithmInfo& algorithm : comm::algorithms()) {
    if (algorithm.has_schedule()) schedules.emplace_back(algorithm.name);
  }
  scale_command->add_option("--algorithm", scale.algorithm, "as in comm.algorithm")
      ->check(CLI::IsMember(schedules))
      ->capture_default_str();
  scale_command->add_option("--fresh", scale.fresh, "of dc_s3gd_fresh, as in algorithm.fresh")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  scale_command->add_option("--bits", scale.bits, "of a float on the wire, one or several")
      ->check(CLI::Range(1, 32))
      ->capture_default_str();
  scale_command->add_option("--ranks", scale.ranks, "one or several")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  add_number(scale_command, "--predicted-steps", scale.predicted_steps, "steps")->capture_default_str();
  scale_command->add_option("--replay-ranks", scale.replay_ranks, "up to so many ranks every message is followed")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  scale_command->add_flag("--json", scale.json, "one JSON object a line; scripts/scale_report.py draws it");

  UpdateBenchOptions update;
  CLI::App* update_command = parser.add_subcommand("update", "the update rule against memory bandwidth");
  add_number(update_command, "--floats", update.floats, "parameters")->capture_default_str();
  add_number(update_command, "--repetitions", update.repetitions, "measured updates")->capture_default_str();
  update_command->add_flag("--json", update.json, "one JSON object a line");

  LoaderBenchOptions loader;
  CLI::App* loader_command = parser.add_subcommand("loader", "decoding and changing photos against decoding alone");
  loader_command->add_option("--data", loader.data, "an image folder or a folder of shards")->required();
  add_number(loader_command, "--threads", loader.threads, "threads that decode")->capture_default_str();
  loader_command->add_option("--image-size", loader.image_size, "pixels")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  add_number(loader_command, "--seconds", loader.seconds, "time to spend")->capture_default_str();
  loader_command->add_flag("--json", loader.json, "one JSON object a line");

  const std::string benchmark = argc > 1 ? argv[1] : "";
  const auto is_benchmark = [&](const CLI::App* command) { return command->get_name() == benchmark; };
  if (!benchmark.empty() && !benchmark.starts_with('-') && parser.get_subcommands(is_benchmark).empty()) {
    throw Error(
        ErrorKind::input,
        format("dcs3gd-bench: expected nn, step, comm, scale, update or loader, found {}; see dcs3gd-bench --help",
               benchmark));
  }
  try {
    parser.parse(argc, argv);
  } catch (const CLI::Success& asked) {  // for help or the version
    return parser.exit(asked);
  } catch (const CLI::ParseError& error) {
    throw Error(ErrorKind::input, format("dcs3gd-bench: {}; see dcs3gd-bench --help", error.what()));
  }
  if (nn_command->parsed()) bench_nn(nn);
  if (comm_command->parsed()) bench_comm(comm);
  if (step_command->parsed()) bench_step(step);
  if (scale_command->parsed()) bench_scale(scale);
  if (update_command->parsed()) bench_update(update);
  if (loader_command->parsed()) bench_loader(loader);
  flush_output();
  return 0;
}

}  // namespace dcs3gd::app
