#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "nn/graph/layer_options.h"
#include "tests/app/workers.h"
#include "tests/oracle/formula.h"
#include "tests/oracle/recording.h"

using namespace dcs3gd;
using namespace dcs3gd::app;
using namespace dcs3gd::app::test;

namespace {

// As in dc_s3gd_oracle.py.
constexpr int kSeed = 1;
constexpr int kWorkers = 4;
constexpr std::int64_t kSteps = 8;
constexpr int kImages = 8;
constexpr int kClasses = 5;
constexpr nn::ImageShape kShape{3, 8, 8};

// The trainer computes in fp32; tolerances are ten times what was found on AVX-512.
constexpr double kTensorTolerance = 5e-6;  ///< of the sums of a tensor's elements, relative to its norm
constexpr double kLossTolerance = 5e-6;
constexpr double kNormTolerance = 5e-5;
constexpr double kLambdaTolerance = 5e-4;  ///< a quotient of the norms of small differences

nn::Graph network() {
  nn::Graph graph(kShape);
  nn::ValueId value = graph.add(nn::Convolution{.oc = 4, .kernel = 3, .padding = 1}, graph.input(), "conv1");
  value = graph.add(nn::BatchNorm{.relu = true}, value, "bn1");
  value = graph.add(nn::Convolution{.oc = 6, .kernel = 3, .stride = 2, .padding = 1}, value, "conv2");
  value = graph.add(nn::BatchNorm{.relu = true}, value, "bn2");
  value = graph.add(nn::GlobalAveragePooling{}, value);
  graph.add(nn::Linear{.oc = kClasses}, value, "fc");
  return graph;
}

/// The settings of one trajectory.
struct Case {
  std::string name;
  AlgorithmOptions algorithm;
  bool nesterov = false;
  bool decay_norm_and_bias = false;
  std::int64_t overlap_from_step = 0;
  std::optional<int> ranks_per_host = {};
  std::function<void(ParameterSlice&)> training = [](ParameterSlice&) {};
};

/// The groups that the trajectories share.
void group(ParameterSlice& slice) {
  if (slice.name.starts_with("conv2")) slice.rate_factor = 0.5;
  if (!slice.name.starts_with("fc")) return;
  slice.rate_factor = 3;
  slice.weight_decay = 0.2F;
}

void freeze_first(ParameterSlice& slice) {
  slice.is_frozen = slice.name.starts_with("conv1") || slice.name.starts_with("bn1");
}

void freeze_first_group_last(ParameterSlice& slice) {
  freeze_first(slice);
  if (slice.name.starts_with("fc")) slice.rate_factor = 3;
}

void freeze_norms_and_last(ParameterSlice& slice) { slice.is_frozen = !slice.name.starts_with("conv"); }

std::vector<Case> cases() {
  return {{.name = "ssgd", .algorithm = {.name = "ssgd"}},
          {.name = "s3gd", .algorithm = {.name = "s3gd"}},
          {.name = "dc_s3gd", .algorithm = {}},
          {.name = "dc_s3gd_tensor", .algorithm = {.lambda_norm = LambdaNorm::tensor}},
          {.name = "dc_s3gd_settings",
           .algorithm = {.lambda_max = 60.0, .gradient_clip_norm = 0.35},
           .nesterov = true,
           .decay_norm_and_bias = true},
          {.name = "own_momentum", .algorithm = {.own_momentum = 0.3, .lambda0 = 0}},
          {.name = "fresh", .algorithm = {.own_momentum = 0, .fresh = 0.7}},
          {.name = "fresh_settings",
           .algorithm = {.fresh = 0.15, .lambda0 = 0.3, .correction_bound = 0.1, .gradient_clip_norm = 0.35},
           .nesterov = true,
           .overlap_from_step = 3},
          {.name = "rank_one", .algorithm = {.lambda = 0.5, .correction = CorrectionForm::rank_one}},
          {.name = "host",
           .algorithm = {.worker = WorkerKind::host, .own_momentum = 0, .fresh = 0.15},
           .ranks_per_host = 2},
          {.name = "groups_ssgd", .algorithm = {.name = "ssgd"}, .training = group},
          {.name = "groups", .algorithm = {}, .nesterov = true, .training = group},
          {.name = "frozen_ssgd", .algorithm = {.name = "ssgd"}, .training = freeze_first},
          {.name = "frozen", .algorithm = {}, .training = freeze_first_group_last},
          {.name = "frozen_norms", .algorithm = {}, .training = freeze_norms_and_last}};
}

double learning_rate(std::int64_t step) { return 0.05 * static_cast<double>(step < 5 ? step + 1 : 9 - step); }

Trajectory run_on(const nn::Graph& graph, const Case& the_case, int ranks) {
  std::vector<oracle::FormulaBatch> batches;
  for (std::int64_t step = 0; step < kSteps; ++step) {
    for (int worker = 0; worker < kWorkers; ++worker) {
      batches.emplace_back(kSeed, "step" + std::to_string(step) + ".worker" + std::to_string(worker), kImages, kShape,
                           kClasses);
    }
  }
  Experiment experiment{
      .graph = graph,
      .images_per_batch = kImages,
      .batch = [&](std::int64_t step,
                   int worker) { return batches[static_cast<std::size_t>(step * kWorkers + worker)].view(kImages); },
      .steps = kSteps,
      .ranks = ranks,
      .algorithm = the_case.algorithm,
      .sgd = {.nesterov = the_case.nesterov,
              .weight_decay = 0.05F,
              .decay_norm_and_bias = the_case.decay_norm_and_bias},
      .ranks_per_host = the_case.ranks_per_host,
      .overlap_from_step = the_case.overlap_from_step,
      .initialize =
          [](ParameterArena& weights, ParameterArena& statistics) {
            oracle::fill_first_values(kSeed, weights);
            oracle::fill_first_values(kSeed, statistics);
          },
      .learning_rate = learning_rate};
  experiment.algorithm.workers_per_rank = kWorkers / ranks;
  return run(experiment, Look::at_the_end)[0];
}

void check_records(const oracle::Recording& recording, const std::string& name,
                   const std::vector<StepReport>& reports) {
  REQUIRE(reports.size() == kSteps);
  for (std::size_t step = 0; step < kSteps; ++step) {
    CAPTURE(step);
    const std::vector<double>& expected = recording.lines().at(name + ".step" + std::to_string(step));
    const StepReport& record = reports[step];
    CHECK(std::abs(record.loss - expected[0]) <= kLossTolerance * expected[0]);
    CHECK(std::abs(record.gradient_norm - expected[1]) <= kNormTolerance * expected[1]);
    CHECK(std::abs(record.lambda - expected[2]) <= kLambdaTolerance * expected[2]);
    CHECK(std::abs(record.distance_norm - expected[3]) <= kNormTolerance * expected[3]);
  }
}

void check_tensors(const oracle::Recording& recording, const std::string& name, const ParameterLayout& layout,
                   const std::vector<float>& values) {
  for (const ParameterSlice& slice : layout.slices()) {
    CAPTURE(slice.name);
    const std::vector<double>& expected = recording.lines().at(name + "." + slice.name);
    const auto first = values.begin() + static_cast<std::ptrdiff_t>(slice.offset);
    const std::vector<double> tensor(first, first + static_cast<std::ptrdiff_t>(slice.count));
    const std::vector<double> found = oracle::sketch(slice.name, tensor);
    REQUIRE(found.size() == expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      CHECK(std::abs(found[i] - expected[i]) <= kTensorTolerance * expected[0]);
    }
  }
}

}  // namespace

TEST_CASE("four workers follow PyTorch's trajectory on 4, 2 and 1 ranks") {
  const oracle::Recording recording(DCS3GD_ORACLE_RECORDINGS "/dc_s3gd.txt");
  for (const Case& the_case : cases()) {
    nn::Graph graph = network();
    graph.set_training(the_case.training);
    for (const int ranks : {4, 2, 1}) {
      if (the_case.ranks_per_host && ranks < kWorkers) continue;
      CAPTURE(the_case.name);
      CAPTURE(ranks);
      const Trajectory trajectory = run_on(graph, the_case, ranks);
      check_records(recording, the_case.name, trajectory.reports);
      check_tensors(recording, the_case.name, *graph.parameter_layout()->part(false), trajectory.mean_models.back());
      check_tensors(recording, the_case.name, *graph.statistics_layout()->part(false), trajectory.mean_statistics);
    }
  }
}
