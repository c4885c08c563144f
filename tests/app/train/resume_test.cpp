#include "app/train/resume.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <omp.h>

#include "app/checkpoint/checkpoint.h"
#include "app/checkpoint/checkpoint_files.h"
#include "app/job/agreement.h"
#include "app/train/trainer.h"
#include "comm/thread_world.h"
#include "core/format.h"
#include "core/hash.h"
#include "core/vector_math.h"
#include "tests/app/run_as_threads.h"
#include "tests/app/workers.h"
#include "tests/support/file_helpers.h"
#include "tests/support/temporary_folder.h"

namespace fs = std::filesystem;

using namespace dcs3gd;
using namespace dcs3gd::app;
using dcs3gd::test::contains;
using dcs3gd::test::content_of;
using dcs3gd::test::error_of;
using dcs3gd::test::FileSizeLimit;
using dcs3gd::test::TemporaryFolder;
using dcs3gd::test::write_file;

namespace {

/// Two epochs of four steps of two workers or two steps of four, with all that is random. ResNet-20 has running
/// statistics.
constexpr const char* kRun = R"(
run: {epochs: 2, threads: 1, eval_every_epochs: 0}
model: {name: resnet20, classes: 4}
data: {format: synthetic, image_size: 8, channels: 1, synthetic: {train_images: 35, eval_images: 9},
       augment: {random_crop_padding: 1, horizontal_flip: true, mixup: 0.4}, loader: {threads: 1}}
algorithm: {batch_per_worker: 4}
optimizer: {lr: {base: 0.02, reference_batch: 8, warmup_epochs: 1}}
checkpoint: {every_epochs: null, keep: 100}
output: {progress: none}
)";
constexpr std::int64_t kSteps = 8;

Configuration configuration_in(const std::string& folder, std::vector<std::string> overrides) {
  overrides.push_back("run.output_dir=" + folder);
  return parse_configuration({.file_name = "run.yaml", .text = kRun, .overrides = overrides});
}

struct Launch {
  std::string folder;
  int ranks = 2;
  std::vector<std::string> overrides = {};
  std::int64_t stop_at = -1;  ///< the last rank wants to stop when asked this many times
  ResumeMode mode = ResumeMode::automatic;
  std::int64_t dies_at = -1;  ///< so does rank 1
};

/// Those left go on when a rank dies.
RunEnd run(const Launch& launch) {
  return run_as_threads(configuration_in(launch.folder, launch.overrides), launch.ranks, launch.mode,
                        [&](const comm::Communicator& communicator, RunStart& start) {
                          if (communicator.rank() == 1 && communicator.size() == launch.ranks) {
                            start.stop_wanted = [asked = std::int64_t{0}, &launch]() mutable {
                              return ++asked == launch.dies_at ? throw comm::RankDies() : false;
                            };
                          }
                          if (communicator.rank() + 1 < communicator.size() || launch.dies_at > 0) return;
                          start.stop_wanted = [asked = std::int64_t{0}, &launch]() mutable {
                            return ++asked == launch.stop_at;
                          };
                        });
}

std::string model_of(const std::string& folder) { return content_of(folder + "/run/model.safetensors"); }

/// Rewrites a checkpoint as an older version would have written it.
void turn_into_format_1(const std::string& path) {
  CheckpointManifest manifest = parse_manifest(content_of(path + "/manifest.json"));
  const Configuration configuration = parse_configuration({.file_name = "x.yaml", .text = kRun, .overrides = {}});
  const Model model(build_graph(model_card(configuration)), network_options(configuration, {}),
                    initial_weights(configuration), 0);
  const auto factor = static_cast<float>(-1 / manifest.rule.at("learning_rate"));
  std::erase_if(manifest.configuration, [](const std::string& line) {
    return line.starts_with("algorithm.own_momentum:") || line.starts_with("algorithm.fresh:");
  });
  for (auto& [name, digest] : manifest.files) {
    if (!name.ends_with(".state")) continue;
    const std::string file = path + "/" + name;
    ParameterArena weights(model.network.parameter_layout());
    ParameterArena update(model.network.parameter_layout());
    ParameterArena statistics(model.network.statistics_layout());
    const bool is_shared = name == "shared.state";
    const bool has_update = content_of(file).find("\"update.") != std::string::npos;
    std::vector<ArenaPart<ParameterArena>> parts;
    if (is_shared) parts.emplace_back(&weights, "mean_weights.");
    if (has_update) parts.emplace_back(&update, "update.");
    if (!is_shared) parts.emplace_back(&statistics, "statistics.");
    load_safetensors(file, parts);
    ParameterArena velocity = update.copy();
    scale(factor, velocity.values());
    std::vector<ArenaPart<const ParameterArena>> old;
    if (is_shared) old.emplace_back(&weights, "mean_weights.");
    if (has_update) old.emplace_back(&velocity, "velocity.");
    if (!is_shared && has_update) old.emplace_back(&update, "update.");
    if (!is_shared) old.emplace_back(&statistics, "statistics.");
    digest = save_safetensors(file, old);
  }
  manifest.format = 1;
  manifest.rule.clear();
  std::ofstream(path + "/manifest.json", std::ios::binary) << to_text(manifest);
}

std::vector<std::string> checkpoints_of(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder + "/run/checkpoints")) {
    names.push_back(entry.path().filename().string());
  }
  std::ranges::sort(names);
  return names;
}

std::vector<nlohmann::json> lines_of(const std::string& folder, const std::string& event) {
  std::vector<nlohmann::json> lines;
  std::istringstream text(content_of(folder + "/run/metrics.jsonl"));
  for (std::string line; std::getline(text, line);) {
    auto json = nlohmann::json::parse(line);
    if (json.at("event") == event) lines.push_back(std::move(json));
  }
  return lines;
}

/// What of the steps does not depend on the clock.
std::vector<std::string> steps_of(const std::string& folder) {
  std::vector<std::string> steps;
  for (const auto& line : lines_of(folder, "step")) {
    std::string text;
    for (const char* key : {"step", "epoch", "loss", "lr", "grad_norm", "lambda", "distance_norm"}) {
      text += line.at(key).dump() + " ";
    }
    steps.push_back(text);
  }
  return steps;
}

/// Weights, then running statistics.
std::vector<float> load_model(const std::string& path) {
  const nn::Graph graph = build_graph(model_card(configuration_in("runs", {})));
  ParameterArena weights(graph.parameter_layout());
  ParameterArena statistics(graph.statistics_layout());
  load_safetensors(path, {&weights, &statistics});
  std::vector<float> values(weights.values().begin(), weights.values().end());
  values.insert(values.end(), statistics.values().begin(), statistics.values().end());
  return values;
}

const std::vector<std::string> kAlgorithms = {"ssgd", "s3gd", "dc_s3gd"};

}  // namespace

TEST_CASE("stopped at any step and continued: the same bits and the same lines as without") {
  for (const std::string& algorithm : kAlgorithms) {
    for (const int ranks : {1, 2}) {
      const std::vector<std::string> overrides = {"algorithm.name=" + algorithm,
                                                  "algorithm.workers_per_rank=" + std::to_string(2 / ranks)};
      const TemporaryFolder undisturbed;
      REQUIRE(run({undisturbed.path().string(), ranks, overrides}) == RunEnd::done);
      REQUIRE(steps_of(undisturbed.path().string()).size() == kSteps);
      for (const std::int64_t stop : {1, 2, 4, 5}) {
        CAPTURE(algorithm);
        CAPTURE(ranks);
        CAPTURE(stop);
        const TemporaryFolder temporary;
        const std::string folder = temporary.path().string();
        CHECK(run({folder, ranks, overrides, stop}) == RunEnd::stopped);
        CHECK(lines_of(folder, "end").back().at("status") == "stopped");
        const std::int64_t saved = stop + 1;  // what travels with a step is known one step later
        CHECK(checkpoints_of(folder) == std::vector{checkpoint_name(saved)});
        CHECK_FALSE(fs::exists(folder + "/run/model.safetensors"));
        CHECK(run({folder, ranks, overrides}) == RunEnd::done);
        CHECK(lines_of(folder, "start").back().at("resumed_from") == saved);
        CHECK(model_of(folder) == model_of(undisturbed.path().string()));
        CHECK(steps_of(folder) == steps_of(undisturbed.path().string()));
      }
    }
  }
}

TEST_CASE("the settings of the family continue bit for bit, too") {
  const std::vector<std::vector<std::string>> variants = {
      {"algorithm.fresh=0.75", "algorithm.own_momentum=0", "algorithm.overlap_from_epoch=0.7"},
      {"algorithm.fresh=0.3", "optimizer.nesterov=true", "algorithm.gradient_clip_norm=1"},
      {"algorithm.worker=host", "algorithm.lambda_until_epoch=1"},
      {"algorithm.staleness_limit=1e-9", "algorithm.fresh=0.1"},
      {"model.freeze=[conv1, bn1, layer1]", "optimizer.groups=[{match: fc, lr_factor: 5, weight_decay: 0.01}]"},
      {"optimizer.groups=[{match: '*bn*', frozen: true}]", "algorithm.name=ssgd"}};
  for (const std::vector<std::string>& overrides : variants) {
    const TemporaryFolder undisturbed;
    REQUIRE(run({undisturbed.path().string(), 2, overrides}) == RunEnd::done);
    for (const std::int64_t stop : {1, 3, 5}) {
      CAPTURE(overrides.front());
      CAPTURE(stop);
      const TemporaryFolder temporary;
      const std::string folder = temporary.path().string();
      CHECK(run({folder, 2, overrides, stop}) == RunEnd::stopped);
      CHECK(run({folder, 2, overrides}) == RunEnd::done);
      CHECK(model_of(folder) == model_of(undisturbed.path().string()));
      CHECK(steps_of(folder) == steps_of(undisturbed.path().string()));
    }
  }
}

TEST_CASE("what is frozen keeps its bits, and everything else of the model moves; every file has both") {
  for (const std::string& algorithm : kAlgorithms) {
    CAPTURE(algorithm);
    const TemporaryFolder temporary;
    const std::string folder = temporary.path().string();
    const std::vector<std::string> overrides = {"algorithm.name=" + algorithm, "optimizer.decay_norm_and_bias=true",
                                                "model.freeze=[conv1, bn1, layer1, layer3.0.bn1]",
                                                "checkpoint.every_steps=4"};
    REQUIRE(run({folder, 2, overrides}) == RunEnd::done);
    const nn::Graph graph = build_graph(model_card(configuration_in(folder, {})));
    ParameterArena weights(graph.parameter_layout());
    ParameterArena statistics(graph.statistics_layout());
    ParameterArena first_weights(graph.parameter_layout());
    ParameterArena first_statistics(graph.statistics_layout());
    nn::initialize(graph, 1, first_weights, first_statistics);
    const auto check = [&](const ParameterArena& found, const ParameterArena& first) {
      for (const ParameterSlice& slice : found.layout().slices()) {
        CAPTURE(slice.name);
        const bool is_frozen = slice.name.starts_with("conv1") || slice.name.starts_with("bn1") ||
                               slice.name.starts_with("layer1") || slice.name.starts_with("layer3.0.bn1");
        CHECK(std::ranges::equal(found.slice(slice), first.slice(slice)) == is_frozen);
      }
    };
    for (const char* file : {"model.safetensors", "best.safetensors", "checkpoints/step-00000004/model.safetensors"}) {
      CAPTURE(file);
      load_safetensors(folder + "/run/" + file, {&weights, &statistics});
      check(weights, first_weights);
      check(statistics, first_statistics);
    }
    const auto start = lines_of(folder, "start").front();
    std::size_t frozen = 0;
    for (const ParameterSlice& slice : weights.layout().slices()) {
      if (std::ranges::equal(weights.slice(slice), first_weights.slice(slice))) frozen += slice.count;
    }
    CHECK(start.at("parameters") == weights.values().size());
    CHECK(start.at("all_reduce_bytes") == 4 * (weights.values().size() - frozen));
  }
}

TEST_CASE("groups that are not those of the start are told, old and new") {
  const TemporaryFolder temporary;
  const std::string folder = temporary.path().string();
  REQUIRE(run({folder, 2, {"optimizer.groups=[{match: fc, lr_factor: 5}]"}, 1}) == RunEnd::stopped);
  const std::string refused = error_of([&] { run({folder, 2, {"model.freeze=[conv1]"}}); }).what();
  CHECK(contains(refused, "model.freeze: [] -> [conv1]"));
  CHECK(contains(refused, "optimizer.groups: [{match: fc, lr_factor: 5, weight_decay: null, frozen: false}] -> []"));
}

TEST_CASE("early stopping ends a run as done, at the same evaluation however often it is continued") {
  const std::vector<std::string> overrides = {"run.epochs=9", "run.eval_every_epochs=1",
                                              "run.early_stopping={patience_evaluations: 2, min_delta: 0.99}"};
  const TemporaryFolder undisturbed;
  REQUIRE(run({undisturbed.path().string(), 2, overrides}) == RunEnd::done);
  // Only the first evaluation is a gain: nothing is better than it by so much.
  CHECK(lines_of(undisturbed.path().string(), "eval").size() == 3);
  CHECK(steps_of(undisturbed.path().string()).size() == 12);
  const nlohmann::json end = lines_of(undisturbed.path().string(), "end").back();
  CHECK(end.at("status") == "done");
  CHECK(contains(end.at("why").get<std::string>(), "early stopping: 2 evaluations in a row"));

  const TemporaryFolder temporary;
  const std::string folder = temporary.path().string();
  int launches = 1;
  while (run({folder, 2, overrides, 4}) == RunEnd::stopped) ++launches;
  CHECK(launches > 2);
  CHECK(model_of(folder) == model_of(undisturbed.path().string()));
  CHECK(steps_of(folder) == steps_of(undisturbed.path().string()));
  CHECK(lines_of(folder, "eval").size() == 3);
  run({folder, 2, overrides});  // is finished
  CHECK(lines_of(folder, "end").size() == static_cast<std::size_t>(launches));

  std::vector<std::string> patient = overrides;
  patient.emplace_back("run.early_stopping.patience_evaluations=4");
  CHECK(run({folder, 2, patient}) == RunEnd::done);
  CHECK(lines_of(folder, "eval").size() == 5);
}

TEST_CASE("the average of the weights is what its formula says, is evaluated and written, and continues bit for bit") {
  const std::vector<std::string> overrides = {"algorithm.name=ssgd", "model.ema_decay=0.3", "checkpoint.every_steps=1"};
  const TemporaryFolder temporary;
  const std::string folder = temporary.path().string();
  REQUIRE(run({folder, 2, overrides}) == RunEnd::done);
  const nn::Graph graph = build_graph(model_card(configuration_in(folder, {})));
  ParameterArena weights(graph.parameter_layout());
  ParameterArena statistics(graph.statistics_layout());
  nn::initialize(graph, 1, weights, statistics);
  const std::size_t count = weights.values().size();
  std::vector<float> mean_model(weights.values().begin(), weights.values().end());
  std::vector<float> average = mean_model;
  for (std::int64_t step = 0; step < kSteps; ++step) {
    const auto done = static_cast<double>(step);
    const double decay = std::min(0.3, (1 + done) / (10 + done));
    for (std::size_t i = 0; i < count; ++i) {
      average[i] = static_cast<float>(decay * double{average[i]} + (1 - decay) * double{mean_model[i]});
    }
    mean_model = load_model(folder + "/run/checkpoints/" + checkpoint_name(step + 1) + "/model.safetensors");
  }
  std::vector<float> written = load_model(folder + "/run/model.safetensors");
  CHECK(content_of(folder + "/run/best.safetensors") == model_of(folder));
  // The statistics are those of the weights themselves.
  CHECK(std::equal(written.begin() + static_cast<std::ptrdiff_t>(count), written.end(),
                   mean_model.begin() + static_cast<std::ptrdiff_t>(count)));
  written.resize(count);
  CHECK(app::test::relative_difference(written, average) < 1e-6);
  mean_model.resize(count);
  CHECK(app::test::relative_difference(written, mean_model) > 1e-4);

  for (const std::string& algorithm : kAlgorithms) {
    CAPTURE(algorithm);
    const std::vector<std::string> settings = {"algorithm.name=" + algorithm, "model.ema_decay=0.9"};
    const TemporaryFolder undisturbed;
    const TemporaryFolder stopped;
    run({undisturbed.path().string(), 2, settings});
    CHECK(run({stopped.path().string(), 2, settings, 3}) == RunEnd::stopped);
    CHECK(run({stopped.path().string(), 2, settings}) == RunEnd::done);
    CHECK(model_of(stopped.path().string()) == model_of(undisturbed.path().string()));
    run({stopped.path().string(), 3, settings});  // other ranks find the average, too
  }
}

TEST_CASE("a checkpoint of the mean of the workers does not grow with them, and any number goes on from that mean") {
  for (const std::string& algorithm : kAlgorithms) {
    CAPTURE(algorithm);
    const std::vector<std::string> half = {"algorithm.name=" + algorithm, "algorithm.fresh=0", "run.max_steps=4",
                                           "checkpoint.workers=average",  "comm.wire=int8",    "comm.algorithm=auto"};
    std::vector<std::string> whole = half;
    whole[2] = "run.max_steps=8";
    std::vector<std::string> with_all = half;
    with_all[3] = "checkpoint.workers=all";
    const TemporaryFolder all;
    const TemporaryFolder average;
    const std::string folder = average.path().string();
    run({all.path().string(), 2, with_all});
    run({folder, 2, half});
    CHECK(model_of(folder) == model_of(all.path().string()));
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder + "/run/checkpoints/step-00000004")) {
      names.insert(entry.path().filename().string());
    }
    CHECK(names == std::set<std::string>{"manifest.json", "model.safetensors", "shared.state", "worker-00000.state"});
    for (const int ranks : {2, 3}) {
      const TemporaryFolder copy;
      fs::copy(average.path() / "run", copy.path() / "run", fs::copy_options::recursive);
      CHECK(run({copy.path().string(), ranks, whole}) == RunEnd::done);
      const auto steps = lines_of(copy.path().string(), "step");
      REQUIRE(steps.size() >= 6);
      CHECK(steps[4].at("loss").get<double>() == doctest::Approx(steps[3].at("loss").get<double>()).epsilon(0.3));
    }

    // The mean of one worker is that worker.
    const TemporaryFolder undisturbed;
    const TemporaryFolder stopped;
    run({undisturbed.path().string(), 1, whole});
    run({stopped.path().string(), 1, half});
    run({stopped.path().string(), 1, whole});
    CHECK(model_of(stopped.path().string()) == model_of(undisturbed.path().string()));
  }
}

TEST_CASE("what fresh: auto has planned stays, also on another number of ranks") {
  const TemporaryFolder temporary;
  const std::string folder = temporary.path().string();
  const std::vector<std::string> overrides = {"algorithm.fresh=auto"};
  REQUIRE(run({folder, 2, overrides, 1}) == RunEnd::stopped);
  const double share = lines_of(folder, "start").front().at("fresh_share").get<double>();
  CHECK(share >= 0);
  CHECK(share <= 1);
  REQUIRE(run({folder, 3, overrides, 1}) == RunEnd::stopped);
  CHECK(run({folder, 2, overrides}) == RunEnd::done);
  for (const auto& start : lines_of(folder, "start")) CHECK(start.at("fresh_share").get<double>() == share);
}

// Format 1 had velocities, v = −u/η; a worker's file held its update, too.
TEST_CASE("a checkpoint of format 1 continues from its mean model and mean velocity") {
  for (const std::string& algorithm : kAlgorithms) {
    CAPTURE(algorithm);
    const std::vector<std::string> overrides = {"algorithm.name=" + algorithm, "algorithm.own_momentum=paper",
                                                "algorithm.fresh=0"};
    const TemporaryFolder undisturbed;
    const TemporaryFolder temporary;
    const std::string folder = temporary.path().string();
    run({undisturbed.path().string(), 2, overrides});
    REQUIRE(run({folder, 2, overrides, 3}) == RunEnd::stopped);
    turn_into_format_1(folder + "/run/checkpoints/" + checkpoint_name(4));
    // It knew no other rule than the paper's.
    if (algorithm != "ssgd") CHECK_THROWS_AS(run({folder, 2, {"algorithm.name=" + algorithm}}), Error);
    CHECK(run({folder, 2, overrides}) == RunEnd::done);
    const auto expected = lines_of(undisturbed.path().string(), "step");
    const auto continued = lines_of(folder, "step");
    REQUIRE(continued.size() == kSteps);
    // The workers start at the mean model, which ssgd's always do.
    const double tolerance = algorithm == "ssgd" ? 1e-4 : 0.2;
    for (std::size_t step = 4; step < kSteps; ++step) {
      CHECK(continued[step].at("loss").get<double>() ==
            doctest::Approx(expected[step].at("loss").get<double>()).epsilon(tolerance));
    }
  }
}

TEST_CASE("stopped again and again, with wires that round") {
  using Lines = std::vector<std::string>;
  for (const Lines& settings : {Lines{"comm.wire=bf16"},
                                {"comm.wire=int8", "algorithm.fresh=0.5"},
                                {"comm.wire=int4", "algorithm.fresh=0", "algorithm.workers_per_rank=2"},
                                {"comm.wire=int4", "algorithm.name=ssgd"},
                                {"comm.wire=int4", "algorithm.fresh=0.5", "algorithm.overlap_from_epoch=1"},
                                {"comm.wire=int4", "algorithm.fresh=0", "algorithm.staleness_limit=1e-9"}}) {
    Lines overrides = {"comm.algorithm=auto", "data.loader.prefetch_batches=2"};
    overrides.insert(overrides.end(), settings.begin(), settings.end());
    CAPTURE(overrides);
    const TemporaryFolder undisturbed;
    run({undisturbed.path().string(), 2, overrides});
    const TemporaryFolder temporary;
    const std::string folder = temporary.path().string();
    int launches = 1;
    while (run({folder, 2, overrides, 1}) == RunEnd::stopped) ++launches;
    CHECK(launches > 1);
    CHECK(model_of(folder) == model_of(undisturbed.path().string()));
    CHECK(steps_of(folder) == steps_of(undisturbed.path().string()));
  }
}

TEST_CASE("another wire from a checkpoint on, or other ranks on a narrow one: nearly the same run") {
  const TemporaryFolder undisturbed;
  run({undisturbed.path().string(), 2, {}});
  const auto expected = lines_of(undisturbed.path().string(), "step");
  struct Case {
    const char* first;
    const char* then;
    int then_ranks;
    const char* workers;
  };
  for (const auto& [first, then, ranks, workers] : {Case{"fp32", "int8", 2, "1"},
                                                    {"int8", "int4", 2, "1"},
                                                    {"int8", "fp32", 2, "1"},
                                                    {"int8", "int8", 1, "2"},
                                                    {"int8", "int8", 1, "1"}}) {
    const TemporaryFolder temporary;
    const std::string folder = temporary.path().string();
    run({folder, 2, {format("comm.wire={}", first), "comm.algorithm=auto", "run.max_steps=2"}});
    run({folder,
         ranks,
         {format("comm.wire={}", then), "comm.algorithm=auto", "run.max_steps=4",
          format("algorithm.workers_per_rank={}", workers)}});
    const auto continued = lines_of(folder, "step");
    REQUIRE(continued.size() == 4);
    const std::string wires = format("{} then {}", first, then);
    CAPTURE(wires);
    CHECK(continued[2].at("loss").get<double>() == doctest::Approx(expected[2].at("loss").get<double>()).epsilon(0.2));
  }
}

TEST_CASE("saving at every step and evaluating at every epoch change nothing") {
  for (const std::string& algorithm : kAlgorithms) {
    CAPTURE(algorithm);
    const TemporaryFolder undisturbed;
    const TemporaryFolder disturbed;
    const std::string name = "algorithm.name=" + algorithm;
    run({undisturbed.path().string(), 2, {name}});
    run({disturbed.path().string(), 2, {name, "checkpoint.every_steps=1", "run.eval_every_epochs=1"}});
    CHECK(model_of(disturbed.path().string()) == model_of(undisturbed.path().string()));
    CHECK(steps_of(disturbed.path().string()) == steps_of(undisturbed.path().string()));
    CHECK(lines_of(disturbed.path().string(), "checkpoint").size() == kSteps);
  }
}

TEST_CASE("four workers on 4, then 2, then 1 ranks") {
  for (const std::string& algorithm : kAlgorithms) {
    CAPTURE(algorithm);
    const auto on = [&](int ranks, int max_steps) {
      return std::vector<std::string>{
          "algorithm.name=" + algorithm, "algorithm.batch_per_worker=2", "optimizer.lr.base=0.0005",
          "algorithm.workers_per_rank=" + std::to_string(4 / ranks), "run.max_steps=" + std::to_string(max_steps)};
    };
    const TemporaryFolder undisturbed;
    const TemporaryFolder moved;
    run({undisturbed.path().string(), 4, on(4, 8)});
    run({moved.path().string(), 4, on(4, 2)});
    run({moved.path().string(), 2, on(2, 5)});
    run({moved.path().string(), 1, on(1, 8)});
    CHECK(steps_of(moved.path().string()).size() == kSteps);
    // A small learning rate: it takes many steps of a large one to blow rounding up.
    CHECK(app::test::relative_difference(load_model(moved.path().string() + "/run/model.safetensors"),
                                         load_model(undisturbed.path().string() + "/run/model.safetensors")) < 1e-5);
    CHECK(lines_of(moved.path().string(), "eval").back().at("step") == 8);
  }
}

TEST_CASE("another number of workers continues from the mean model, after the images used") {
  for (const std::string& algorithm : kAlgorithms) {
    CAPTURE(algorithm);
    const TemporaryFolder temporary;
    const std::string folder = temporary.path().string();
    const std::string name = "algorithm.name=" + algorithm;
    REQUIRE(run({folder, 2, {name}, 1}) == RunEnd::stopped);  // 16 of 35 images
    const std::vector<float> saved = load_model(folder + "/run/checkpoints/step-00000002/model.safetensors");

    // Three workers that take no step yet: their mean model is the saved one.
    const Configuration configuration = configuration_in(folder, {name});
    comm::run_ranks_as_threads(3, {}, [&](comm::Communicator& communicator) {
      omp_set_num_threads(1);
      RunStart start{.card = model_card(configuration), .command = "resume_test"};
      const RunFolder run_folder(configuration.run.output_dir, configuration.run.name);
      start.checkpoint = find_checkpoint(communicator, run_folder, ResumeMode::automatic, "");
      Model model(build_graph(model_card(configuration)), network_options(configuration, {}),
                  initial_weights(configuration), communicator.rank());
      const std::span<const float> saved_weights(saved.data(), model.weights.values().size());
      std::ranges::copy(saved_weights, model.weights.values().begin());
      const auto rule =
          make_rule({communicator, model.network, model.statistics}, rule_options(configuration), model.weights.copy());
      restore_checkpoint(communicator, *start.checkpoint, *rule, model.statistics, 0);
      ParameterArena mean_model(model.network.parameter_layout());
      rule->drain();
      rule->copy_mean_model(mean_model);
      CHECK(std::ranges::equal(mean_model.values(), saved_weights));
      const RuleState state = rule->state();
      const std::vector<StateArray>& arrays = algorithm == "ssgd" ? state.shared : state.workers[0];
      const auto update = std::ranges::find(arrays, "update", &StateArray::name);
      CHECK(std::ranges::any_of(update->values->values(), [](float value) { return value != 0; }));
      const std::string hash = hash_text(hash_bytes(std::as_bytes(update->values->values())));
      expect_same(communicator, ErrorKind::failure, "update", hash, "");
    });

    // Three workers of batch 4: 19 images are left, one step; then two of 12.
    CHECK(run({folder, 3, {name}}) == RunEnd::done);
    const auto steps = lines_of(folder, "step");
    REQUIRE(steps.size() == 5);
    const std::vector<int> epochs = {1, 1, 1, 2, 2};
    for (std::size_t i = 0; i < steps.size(); ++i) {
      CHECK(steps[i].at("step") == i + 1);
      CHECK(steps[i].at("epoch") == epochs[i]);
    }
  }
}

TEST_CASE("those left when a rank dies go on like a new start of as many from the newest checkpoint") {
  for (const std::string& algorithm : kAlgorithms) {
    for (const std::int64_t death : {1, 4, 9}) {
      CAPTURE(algorithm);
      CAPTURE(death);
      const std::vector<std::string> overrides = {"algorithm.name=" + algorithm, "run.epochs=6",
                                                  "checkpoint.every_steps=3"};
      const TemporaryFolder with_death;
      const std::string folder = with_death.path().string();
      CHECK(run({.folder = folder, .ranks = 3, .overrides = overrides, .dies_at = death}) == RunEnd::done);
      const nlohmann::json start = lines_of(folder, "start").back();
      CHECK(start.at("ranks") == 2);

      const TemporaryFolder anew;
      const std::string other = anew.path().string();
      if (start.contains("resumed_from") && start.at("resumed_from").is_number()) {
        const std::int64_t saved = start.at("resumed_from");
        CHECK(run({.folder = other, .ranks = 3, .overrides = overrides, .stop_at = saved - 1}) == RunEnd::stopped);
      }
      CHECK(run({.folder = other, .ranks = 2, .overrides = overrides}) == RunEnd::done);
      CHECK(model_of(folder) == model_of(other));
    }
  }
}

TEST_CASE("the newest are kept, unfinished ones go") {
  const TemporaryFolder temporary;
  const std::string folder = temporary.path().string();
  fs::create_directories(folder + "/run/checkpoints/step-00000001.tmp/x");
  run({folder, 2, {"checkpoint.every_steps=1", "checkpoint.keep=2"}});
  CHECK(checkpoints_of(folder) == std::vector<std::string>{"step-00000007", "step-00000008"});
  const std::set<std::string> expected = {"manifest.json", "model.safetensors", "shared.state", "worker-00000.state",
                                          "worker-00001.state"};
  std::set<std::string> files;
  for (const auto& entry : fs::directory_iterator(folder + "/run/checkpoints/step-00000008")) {
    files.insert(entry.path().filename().string());
  }
  CHECK(files == expected);
  CHECK(content_of(folder + "/run/checkpoints/step-00000008/model.safetensors").size() > 0);
}

TEST_CASE("a finished run is finished; with more steps it goes on, and its end is made up for") {
  const TemporaryFolder undisturbed;
  run({undisturbed.path().string()});
  const TemporaryFolder temporary;
  const std::string folder = temporary.path().string();
  run({folder, 2, {"run.max_steps=3"}});
  const std::string metrics = content_of(folder + "/run/metrics.jsonl");
  run({folder, 2, {"run.max_steps=3"}});
  CHECK(content_of(folder + "/run/metrics.jsonl") == metrics);
  run({folder});
  CHECK(model_of(folder) == model_of(undisturbed.path().string()));
  // Ended between the checkpoint and the model, or damaged since.
  for (const bool is_removed : {true, false}) {
    fs::remove(folder + "/run/model.safetensors");
    if (!is_removed) write_file(folder + "/run/model.safetensors", "damaged");
    run({folder});
    CHECK(model_of(folder) == model_of(undisturbed.path().string()));
  }
  CHECK(model_of(folder) == model_of(undisturbed.path().string()));
  CHECK(lines_of(folder, "eval").size() == 2);
  CHECK(lines_of(folder, "end").back().at("final_top1") == lines_of(folder, "eval").back().at("top1"));
}

TEST_CASE("lines after the checkpoint are taken back") {
  const TemporaryFolder undisturbed;
  run({undisturbed.path().string()});
  const TemporaryFolder temporary;
  const std::string folder = temporary.path().string();
  run({folder, 2, {"checkpoint.every_steps=2", "run.max_steps=5"}});
  fs::remove_all(folder + "/run/checkpoints/step-00000005");
  std::ofstream(folder + "/run/metrics.jsonl", std::ios::app) << R"({"event":"step","step":6,"ep)";
  run({folder});
  CHECK(lines_of(folder, "start").back().at("resumed_from") == 4);
  CHECK(steps_of(folder) == steps_of(undisturbed.path().string()));
  CHECK(model_of(folder) == model_of(undisturbed.path().string()));
}

TEST_CASE("what makes the trajectory may not change; the rest may") {
  const TemporaryFolder temporary;
  const std::string folder = temporary.path().string();
  run({folder, 2, {}, 1});
  const std::string message = error_of([&] {
                                run({folder, 2, {"optimizer.momentum=0.5", "model.classes=5", "run.epochs=3"}});
                              }).what();
  CHECK(contains(message, "optimizer.momentum: 0.9 -> 0.5"));
  CHECK(contains(message, "model.classes: 4 -> 5"));
  CHECK_FALSE(contains(message, "run.epochs"));
  CHECK(run({folder,
             2,
             {"run.epochs=3", "optimizer.lr.base=0.01", "checkpoint.keep=1", "comm.wire=bf16", "data.loader.threads=0",
              "output.metrics_every_steps=2"}}) == RunEnd::done);
  CHECK(lines_of(folder, "step").back().at("step") == 12);
}

TEST_CASE("a run goes on from the checkpoint before a damaged one, which is put aside") {
  const TemporaryFolder undisturbed;
  run({undisturbed.path().string()});
  const TemporaryFolder temporary;
  const std::string folder = temporary.path().string();
  run({folder, 2, {"run.max_steps=6", "checkpoint.every_steps=2"}});
  fs::resize_file(folder + "/run/checkpoints/step-00000006/worker-00001.state", 1000);
  run({folder, 2, {"checkpoint.keep=1", "checkpoint.every_steps=3"}});
  CHECK(lines_of(folder, "start").back().at("resumed_from") == 4);
  CHECK(model_of(folder) == model_of(undisturbed.path().string()));
  CHECK(steps_of(folder) == steps_of(undisturbed.path().string()));
  CHECK(checkpoints_of(folder) == std::vector<std::string>{"step-00000006.1", "step-00000008"});
}

TEST_CASE("a best model that is not the one that the checkpoint knows is chosen anew") {
  for (const std::string damage : {"none", "removed", "cut", "flipped"}) {
    CAPTURE(damage);
    const TemporaryFolder temporary;
    const std::string folder = temporary.path().string();
    const std::string best = folder + "/run/best.safetensors";
    run({folder, 2, {"run.eval_every_epochs=1", "run.max_steps=4"}});
    std::string content = content_of(best);
    REQUIRE_FALSE(content.empty());
    if (damage == "cut") content.resize(content.size() / 2);
    if (damage == "flipped") content[content.size() / 2] ^= 1;
    write_file(best, content);
    if (damage == "removed") fs::remove(best);
    run({folder, 2, {"run.eval_every_epochs=1"}});
    load_model(best);  // it is whole
    std::vector<double> top1;
    for (const auto& line : lines_of(folder, "eval")) top1.push_back(line.at("top1"));
    REQUIRE(top1.size() == 2);
    // What was there is lost to nobody.
    CHECK(fs::exists(best + ".1") == (damage == "cut" || damage == "flipped"));
    const double expected = damage == "none" ? std::max(top1[0], top1[1]) : top1[1];
    CHECK(lines_of(folder, "end").back().at("best_top1") == expected);
  }
}

TEST_CASE("where the last checkpoint has no room the weights alone are saved") {
  const TemporaryFolder temporary;
  const std::string folder = temporary.path().string();
  run({folder, 2, {"run.max_steps=1", "algorithm.name=ssgd"}});
  const std::size_t weights = model_of(folder).size();
  const Error error = error_of([&] {
    const FileSizeLimit limit(static_cast<rlim_t>(weights) * 3 / 2);  // less than weights and update
    run({folder, 2, {"run.max_steps=2", "algorithm.name=ssgd"}});
  });
  CHECK(error.kind() == ErrorKind::failure);
  CHECK_MESSAGE(contains(error.what(), "the weights alone are in "), error.what());
  const std::vector<float> saved = load_model(folder + "/run/model.safetensors");
  run({folder, 2, {"run.max_steps=2", "algorithm.name=ssgd"}});
  CHECK(saved == load_model(folder + "/run/model.safetensors"));
}

TEST_CASE("a checkpoint that cannot be written leaves those before; training goes on, but an end without one is none") {
  const TemporaryFolder temporary;
  const std::string folder = temporary.path().string();
  run({folder, 2, {"run.max_steps=2"}});
  const std::string before = content_of(folder + "/run/checkpoints/step-00000002/shared.state");
  {
    const FileSizeLimit limit(static_cast<rlim_t>(before.size()) / 2);  // no room for the weights
    const Error error = error_of([&] { run({folder, 2, {"checkpoint.every_steps=1", "run.max_steps=6"}}); });
    CHECK(error.kind() == ErrorKind::failure);
    CHECK(contains(error.what(), "step-00000006.tmp"));
  }
  CHECK(steps_of(folder).size() == 6);
  CHECK(checkpoints_of(folder) == std::vector<std::string>{"step-00000002"});
  CHECK(lines_of(folder, "end").back().at("status") == "failed");
  // With room again the same command goes on.
  run({folder});
  const TemporaryFolder undisturbed;
  run({undisturbed.path().string()});
  CHECK(model_of(folder) == model_of(undisturbed.path().string()));
  CHECK(steps_of(folder) == steps_of(undisturbed.path().string()));
}
