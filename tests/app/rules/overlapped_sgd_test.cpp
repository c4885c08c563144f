#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "app/rules/fresh_part.h"
#include "app/rules/table.h"
#include "nn/graph/layer_options.h"
#include "tests/app/workers.h"

using namespace dcs3gd;
using namespace dcs3gd::app;
using namespace dcs3gd::app::test;
using doctest::Approx;

namespace {

constexpr int kImages = 4;  // per batch
constexpr std::int64_t kSteps = 8;
constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

/// Slices: conv1 72 and bn1 8, conv2 216 and bn2 12, fc 24 + 4 elements.
nn::Graph network() {
  nn::Graph graph({2, 6, 6});
  nn::ValueId value = graph.add(nn::Convolution{.oc = 4, .kernel = 3, .padding = 1}, graph.input(), "conv1");
  value = graph.add(nn::BatchNorm{.relu = true}, value, "bn1");
  value = graph.add(nn::Convolution{.oc = 6, .kernel = 3, .stride = 2, .padding = 1}, value, "conv2");
  value = graph.add(nn::BatchNorm{.relu = true}, value, "bn2");
  value = graph.add(nn::GlobalAveragePooling{}, value);
  graph.add(nn::Linear{.oc = 4}, value, "fc");
  return graph;
}

/// A way to train, by its settings.
struct Variant {
  std::string name;
  AlgorithmOptions algorithm = {};
  bool nesterov = false;
  std::int64_t overlap_from_step = 0;
};

/// One of each kind and some together.
std::vector<Variant> variants() {
  return {{.name = "own momentum", .algorithm = {.own_momentum = 0.3}},
          {.name = "fresh", .algorithm = {.own_momentum = 0, .fresh = 0.75}},
          {.name = "fresh and clipped", .algorithm = {.fresh = 0.75, .gradient_clip_norm = 0.5}},
          {.name = "Nesterov", .algorithm = {.fresh = 0.1}, .nesterov = true},
          {.name = "synchronous at first", .algorithm = {}, .overlap_from_step = 3},
          {.name = "fresh, synchronous at first",
           .algorithm = {.own_momentum = 0, .fresh = 0.3},
           .nesterov = true,
           .overlap_from_step = 4},
          {.name = "guarded", .algorithm = {.own_momentum = 0, .fresh = 0.1, .staleness_limit = 1e-9}},
          {.name = "bounded", .algorithm = {.correction_bound = 0.1}},
          {.name = "rank one", .algorithm = {.lambda = 1, .correction = CorrectionForm::rank_one}},
          {.name = "clipped ssgd", .algorithm = {.name = "ssgd", .gradient_clip_norm = 0.5}}};
}

Experiment experiment_of(const nn::Graph& graph, const Batches& batches, int ranks, int workers,
                         const Variant& variant) {
  Experiment experiment{.graph = graph,
                        .images_per_batch = batches.images_per_batch(),
                        .batch = [&batches](std::int64_t step, int worker) { return batches.at(step, worker); },
                        .steps = kSteps,
                        .ranks = ranks,
                        .algorithm = variant.algorithm,
                        .sgd = {.nesterov = variant.nesterov, .weight_decay = 0.01F},
                        .overlap_from_step = variant.overlap_from_step};
  experiment.algorithm.workers_per_rank = workers / ranks;
  return experiment;
}

}  // namespace

TEST_CASE("all fresh is ssgd bit for bit, and never overlapped is ssgd but for the order of sums") {
  const nn::Graph graph = network();
  const Batches batches(graph, kImages, 3, kSteps);
  const Trajectory ssgd = run(experiment_of(graph, batches, 3, 3, {.algorithm = {.name = "ssgd"}}))[0];
  const Trajectory fresh = run(experiment_of(graph, batches, 3, 3, {.algorithm = {.fresh = 1}}))[0];
  CHECK(fresh.mean_models == ssgd.mean_models);
  for (const int ranks : {1, 3}) {
    const Trajectory synchronous = run(experiment_of(graph, batches, ranks, 3, {.overlap_from_step = kNever}))[0];
    for (std::size_t step = 0; step < kSteps; ++step) {
      CHECK(relative_difference(synchronous.mean_models[step], ssgd.mean_models[step]) < 1e-6);
      CHECK(synchronous.reports[step].loss == Approx(ssgd.reports[step].loss).epsilon(1e-6));
      CHECK(synchronous.reports[step].distance_norm == 0);
      CHECK(synchronous.reports[step].staleness_price == 0);
    }
  }
}

TEST_CASE("one worker is momentum SGD in every variant") {
  const nn::Graph graph = network();
  const Batches batches(graph, kImages, 1, kSteps);
  for (const Variant& variant : variants()) {
    CAPTURE(variant.name);
    Variant plain = variant;
    plain.algorithm = {.name = "ssgd", .gradient_clip_norm = variant.algorithm.gradient_clip_norm};
    const Trajectory expected = run(experiment_of(graph, batches, 1, 1, plain))[0];
    const Trajectory actual = run(experiment_of(graph, batches, 1, 1, variant))[0];
    for (std::size_t step = 0; step < kSteps; ++step) {
      CHECK(relative_difference(actual.mean_models[step], expected.mean_models[step]) < 1e-6);
    }
  }
}

TEST_CASE("every variant follows the same trajectory on 4, 2 and 1 ranks, the same bits on all of them") {
  const nn::Graph graph = network();
  constexpr int kWorkers = 4;
  const Batches batches(graph, kImages, kWorkers, kSteps);
  for (const Variant& variant : variants()) {
    CAPTURE(variant.name);
    const std::vector<Trajectory> expected = run(experiment_of(graph, batches, kWorkers, kWorkers, variant));
    for (const Trajectory& other : expected) CHECK(other.mean_models == expected[0].mean_models);
    for (const int ranks : {2, 1}) {
      CAPTURE(ranks);
      const Trajectory actual = run(experiment_of(graph, batches, ranks, kWorkers, variant))[0];
      for (std::size_t step = 0; step < kSteps; ++step) {
        CHECK(relative_difference(actual.mean_models[step], expected[0].mean_models[step]) < 2e-5);
        CHECK(actual.reports[step].gradient_norm == Approx(expected[0].reports[step].gradient_norm).epsilon(1e-4));
      }
    }
  }
}

TEST_CASE("looking at the mean model never changes a trajectory, of whatever variant") {
  const nn::Graph graph = network();
  const Batches batches(graph, kImages, 2, kSteps);
  for (const Variant& variant : variants()) {
    for (const int ranks : {1, 2}) {
      CAPTURE(variant.name);
      CAPTURE(ranks);
      const Experiment experiment = experiment_of(graph, batches, ranks, 2, variant);
      const Trajectory undisturbed = run(experiment, Look::at_the_end)[0];
      for (const Look look : {Look::after_each_step, Look::after_each_step_and_use_the_network}) {
        const Trajectory disturbed = run(experiment, look)[0];
        CHECK(disturbed.mean_models.back() == undisturbed.mean_models.back());
        for (std::size_t step = 0; step < kSteps; ++step) {
          CHECK(disturbed.reports[step].loss == undisturbed.reports[step].loss);
          CHECK(disturbed.reports[step].gradient_norm == undisturbed.reports[step].gradient_norm);
          CHECK(disturbed.reports[step].staleness_price == undisturbed.reports[step].staleness_price);
        }
      }
    }
  }
}

TEST_CASE("a state that is saved and loaded continues bit for bit, at any step of every variant") {
  const nn::Graph graph = network();
  const Batches batches(graph, kImages, 4, kSteps);
  for (const Variant& variant : variants()) {
    for (const auto& [saved_step, wire] :
         {std::pair{1, comm::Wire::fp32}, {3, comm::Wire::int4}, {4, comm::Wire::fp32}, {6, comm::Wire::int4}}) {
      const int saved_at = saved_step;
      CAPTURE(variant.name);
      CAPTURE(saved_at);
      Experiment experiment = experiment_of(graph, batches, 2, 4, variant);
      experiment.wire = wire;
      const Trajectory undisturbed = run(experiment, Look::at_the_end)[0];
      std::vector<std::vector<float>> continued(2);
      run_ranks(experiment, [&](Rank& rank) {
        for (std::int64_t step = 0; step < saved_at; ++step) rank.step(step);
        rank.drain();
        rank.restart_from_state();
        for (std::int64_t step = saved_at; step < kSteps; ++step) rank.step(step);
        continued[static_cast<std::size_t>(rank.number())] = rank.drain();
      });
      CHECK(continued[0] == undisturbed.mean_models.back());
      CHECK(continued[1] == undisturbed.mean_models.back());
    }
  }
}

TEST_CASE("averages that are read where neighbours have summed them make the same trajectory") {
  const nn::Graph graph = network();
  for (const int ranks : {2, 3}) {
    const Batches batches(graph, kImages, 2 * ranks, kSteps);
    for (const Variant& variant : variants()) {
      CAPTURE(variant.name);
      CAPTURE(ranks);
      Experiment experiment = experiment_of(graph, batches, ranks, 2 * ranks, variant);
      const std::vector<float> expected = run(experiment, Look::at_the_end)[0].mean_models.back();
      experiment.all_reduce = "shared";
      const std::vector<Trajectory> undisturbed = run(experiment, Look::at_the_end);
      CHECK(relative_difference(undisturbed[0].mean_models.back(), expected) < 2e-5);
      const std::vector<Trajectory> looked_at = run(experiment, Look::after_each_step_and_use_the_network);
      std::vector<std::vector<float>> continued(static_cast<std::size_t>(ranks));
      run_ranks(experiment, [&](Rank& rank) {
        for (std::int64_t step = 0; step < kSteps; ++step) {
          rank.step(step);
          if (step % 3 != 1) continue;
          rank.drain();
          rank.restart_from_state();
        }
        continued[static_cast<std::size_t>(rank.number())] = rank.drain();
      });
      for (std::size_t rank = 0; rank < continued.size(); ++rank) {
        CHECK(looked_at[rank].mean_models.back() == undisturbed[0].mean_models.back());
        CHECK(continued[rank] == undisturbed[0].mean_models.back());
      }
    }
  }
}

TEST_CASE("of the fresh part every worker has the mean model, of the stale part none") {
  const nn::Graph graph = network();
  const Batches batches(graph, kImages, 2, kSteps);
  Variant variant{.algorithm = {.fresh = 0.1}};
  const Experiment experiment = experiment_of(graph, batches, 2, 2, variant);
  const std::size_t first_fresh = first_fresh_slice(*graph.parameter_layout(), 0.1);
  run_ranks(experiment, [&](Rank& rank) {
    for (std::int64_t step = 0; step < 3; ++step) rank.step(step);
    rank.drain();
    const RuleState state = rank.rule().state();
    const ParameterArena& update = *state.workers[0][0].values;
    ParameterArena mean = update.copy();
    // The mean of the two workers' updates is in no array; what they do not share is.
    const std::vector<std::string> all = rank.gather_bytes(std::as_bytes(update.values()));
    const auto& slices = mean.layout().slices();
    for (std::size_t index = 0; index < slices.size(); ++index) {
      const std::size_t first = slices[index].offset * sizeof(float);
      const std::size_t bytes = slices[index].count * sizeof(float);
      CHECK((all[0].substr(first, bytes) == all[1].substr(first, bytes)) == (index >= first_fresh));
    }
  });
}

TEST_CASE("the ranks of a host are one worker with their whole batch") {
  // Without batch norm, whose statistics are a rank's own.
  nn::Graph graph({2, 6, 6});
  const nn::ValueId value = graph.add(
      nn::Relu{}, graph.add(nn::Convolution{.oc = 4, .kernel = 3, .stride = 2, .bias = true}, graph.input(), "conv1"));
  graph.add(nn::Linear{.oc = 4}, value, "fc");
  const Batches batches(graph, kImages, 4, kSteps);
  for (const double fresh : {0.0, 0.3}) {
    CAPTURE(fresh);
    Experiment hosts = experiment_of(graph, batches, 4, 4, {.algorithm = {.worker = WorkerKind::host, .fresh = fresh}});
    hosts.ranks_per_host = 2;
    Experiment large = experiment_of(graph, batches, 2, 2, {.algorithm = {.fresh = fresh}});
    large.images_per_batch = 2 * kImages;
    large.batch = [&](std::int64_t step, int worker) {
      const nn::BatchView first = batches.at(step, 2 * worker);  // the workers' batches follow each other
      return nn::BatchView{first.images, first.labels, 2 * kImages};
    };
    const std::vector<Trajectory> actual = run(hosts);
    const Trajectory expected = run(large)[0];
    for (std::size_t step = 0; step < kSteps; ++step) {
      CHECK(relative_difference(actual[0].mean_models[step], expected.mean_models[step]) < 1e-5);
      CHECK(actual[3].mean_models[step] == actual[0].mean_models[step]);
    }
    // Hosts of two ranks and of one.
    Experiment unequal = hosts;
    unequal.ranks = 3;
    const std::vector<Trajectory> three = run(unequal);
    CHECK(three[2].mean_models == three[0].mean_models);
  }
}

TEST_CASE("the price of staleness is the loss that the workers have and the mean model has not, to first order") {
  const nn::Graph graph = network();
  const Batches batches(graph, kImages, 3, kSteps);
  const Experiment experiment = experiment_of(graph, batches, 3, 3, {.algorithm = {.name = "s3gd"}});
  std::vector<double> local(3), mean(3);  // of the last step's batches
  std::vector<StepReport> reports;
  run_ranks(experiment, [&](Rank& rank) {
    for (std::int64_t step = 0; step + 1 < kSteps; ++step) rank.step(step);
    rank.drain();
    const auto number = static_cast<std::size_t>(rank.number());
    ParameterArena gradient(rank.network().parameter_layout());
    const auto loss = [&] {
      return rank.network().compute_gradient(batches.at(kSteps - 1, rank.number()), {}, gradient).loss_sum / kImages;
    };
    rank.use_network();  // the mean model
    mean[number] = loss();
    rank.rule().load_network();
    local[number] = loss();
    rank.step(kSteps - 1);
    rank.drain();
    if (number == 0) reports = rank.reports();
  });
  double difference = 0;
  for (std::size_t i = 0; i < 3; ++i) difference += (local[i] - mean[i]) / 3;
  // −⟨g, D⟩ = 2S is the change of the loss along the tangent.
  CHECK(2 * reports.back().staleness_price == Approx(difference).epsilon(0.2));
  CHECK(reports.back().staleness_sharpness != 0);
  CHECK(reports.front().staleness_price == 0);
}

TEST_CASE("the prices of all tensors add up to the mean of the steps'") {
  const nn::Graph graph = network();
  const Batches batches(graph, kImages, 2, kSteps);
  const Experiment experiment =
      experiment_of(graph, batches, 1, 2, {.algorithm = {.fresh = 0.2}, .overlap_from_step = 3});
  run_ranks(experiment, [&](Rank& rank) {
    for (std::int64_t step = 0; step < kSteps; ++step) rank.step(step);
    rank.drain();
    double price = 0;
    for (const StepReport& report : rank.reports()) price += report.staleness_price / (kSteps - 2);
    double sum = 0;
    for (const TensorPrice& tensor : rank.rule().prices_by_tensor()) sum += tensor.price;
    CHECK(sum == Approx(price).epsilon(1e-5));
    CHECK(rank.rule().prices_by_tensor().front().name == "conv1.weight");
    CHECK(rank.rule().prices_by_tensor().front().price != 0);
  });
}

// A checkpoint's manifest holds them as JSON, which knows no NaN.
TEST_CASE("a loss of 0 leaves the numbers of the state finite") {
  nn::Graph graph({2, 1, 1});
  graph.add(nn::Linear{.oc = 2}, graph.input(), "fc");
  const std::vector<float> images(2 * kImages);
  const std::vector<std::int32_t> labels(kImages);
  for (const std::string name : {"ssgd", "dc_s3gd"}) {
    CAPTURE(name);
    Experiment experiment{.graph = graph,
                          .images_per_batch = kImages,
                          .batch =
                              [&](std::int64_t, int) {
                                return nn::BatchView{images.data(), labels.data(), kImages};
                              },
                          .ranks = 2,
                          .algorithm = {.name = name},
                          .initialize =
                              [](ParameterArena& weights, ParameterArena&) {
                                weights.values()[4] = 1000;  // the bias of the class that all images have
                              }};
    run_ranks(experiment, [&](Rank& rank) {
      for (std::int64_t step = 0; step < 3; ++step) rank.step(step);
      rank.drain();
      CHECK(rank.reports().back().loss == 0);
      for (const StateNumber& number : rank.rule().state().numbers) CHECK(std::isfinite(*number.value));
    });
  }
}

TEST_CASE("the guard makes steps synchronous when the price is above its limit, on all ranks") {
  const nn::Graph graph = network();
  const Batches batches(graph, kImages, 2, kSteps);
  const Variant guarded{.algorithm = {.name = "s3gd", .staleness_limit = 1e-9}};
  const std::vector<Trajectory> trajectories = run(experiment_of(graph, batches, 2, 2, guarded));
  CHECK(trajectories[0].mean_models == trajectories[1].mean_models);
  const auto is_stale = [](const StepReport& report) { return report.distance_norm > 0; };
  CHECK(std::ranges::any_of(trajectories[0].reports, is_stale));
  CHECK_FALSE(is_stale(trajectories[0].reports.back()));

  const Variant free{.algorithm = {.name = "s3gd", .staleness_limit = 1e9}};
  const Variant unguarded{.algorithm = {.name = "s3gd"}};
  CHECK(run(experiment_of(graph, batches, 2, 2, free))[0].mean_models ==
        run(experiment_of(graph, batches, 2, 2, unguarded))[0].mean_models);
}
