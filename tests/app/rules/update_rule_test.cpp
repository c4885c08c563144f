#include "app/rules/update_rule.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <omp.h>

#include "comm/thread_world.h"
#include "core/error.h"
#include "core/optim/momentum_sgd.h"
#include "core/vector_math.h"
#include "nn/graph/layer_options.h"
#include "tests/app/workers.h"

using namespace dcs3gd;
using namespace dcs3gd::app;
using namespace dcs3gd::app::test;
using doctest::Approx;

namespace {

constexpr int kImages = 4;  // per batch
constexpr std::int64_t kSteps = 6;
constexpr const char* kRules[] = {"ssgd", "s3gd", "dc_s3gd"};

nn::Graph network_with_norm(float dropout = 0) {
  nn::Graph graph({2, 6, 6});
  nn::ValueId value = graph.add(nn::Convolution{.oc = 4, .kernel = 3, .padding = 1}, graph.input(), "conv1");
  value = graph.add(nn::BatchNorm{.relu = true}, value, "bn1");
  value = graph.add(nn::Convolution{.oc = 6, .kernel = 3, .stride = 2, .padding = 1}, value, "conv2");
  value = graph.add(nn::BatchNorm{.relu = true}, value, "bn2");
  value = graph.add(nn::GlobalAveragePooling{}, value);
  if (dropout > 0) value = graph.add(nn::Dropout{.probability = dropout}, value);
  graph.add(nn::Linear{.oc = 4}, value, "fc");
  return graph;
}

nn::Graph network_without_norm() {
  nn::Graph graph({2, 6, 6});
  nn::ValueId value =
      graph.add(nn::Convolution{.oc = 4, .kernel = 3, .padding = 1, .bias = true}, graph.input(), "conv1");
  value = graph.add(nn::Relu{}, value);
  value = graph.add(nn::Pooling{.kind = nn::Pooling::Kind::max}, value);
  graph.add(nn::Linear{.oc = 4}, value, "fc");
  return graph;
}

constexpr int kInputs = 3;
constexpr int kClasses = 2;

/// Logits W·x + b: its weights can be read off its logits.
nn::Graph linear_model() {
  nn::Graph graph({kInputs, 1, 1});
  graph.add(nn::Linear{.oc = kClasses}, graph.input(), "fc");
  return graph;
}

/// The weights that the network of a linear_model() holds, in the layout's order: b are the logits of 0, and the
/// columns of W those of the unit vectors less b.
std::vector<double> network_weights(nn::Network& network) {
  std::vector<float> images(static_cast<std::size_t>(network.batch() * kInputs));
  for (int input = 0; input < kInputs; ++input) images[static_cast<std::size_t>(input * kInputs + input)] = 1;
  const std::vector<std::int32_t> labels(static_cast<std::size_t>(network.batch()));
  network.evaluate({images.data(), labels.data(), network.batch()});
  const auto logit = [&](int image, int output) {
    return static_cast<double>(network.logits()[static_cast<std::size_t>(image * kClasses + output)]);
  };
  std::vector<double> weights;
  for (int output = 0; output < kClasses; ++output) {
    for (int input = 0; input < kInputs; ++input) weights.push_back(logit(input, output) - logit(kInputs, output));
  }
  for (int output = 0; output < kClasses; ++output) weights.push_back(logit(kInputs, output));
  return weights;
}

std::vector<double> difference(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> result(a);
  for (std::size_t i = 0; i < b.size(); ++i) result[i] -= b[i];
  return result;
}

double norm(std::vector<double>::const_iterator first, std::vector<double>::const_iterator last) {
  return std::sqrt(std::inner_product(first, last, first, 0.0));
}

Experiment experiment_of(const nn::Graph& graph, const Batches& batches) {
  return {.graph = graph,
          .images_per_batch = batches.images_per_batch(),
          .batch = [&batches](std::int64_t step, int worker) { return batches.at(step, worker); },
          .steps = kSteps,
          .sgd = {.weight_decay = 0.01F}};
}

std::vector<Trajectory> run_as(Experiment experiment, const std::string& name, Look look = Look::after_each_step) {
  experiment.algorithm.name = name;
  return run(experiment, look);
}

/// Momentum SGD as PyTorch has it, on the batches of worker 0: the models after each step.
std::vector<std::vector<float>> momentum_sgd_by_hand(const Experiment& experiment) {
  omp_set_num_threads(1);
  nn::Network network(experiment.graph, {.batch = experiment.images_per_batch});
  ParameterArena weights(network.parameter_layout());
  ParameterArena gradient(network.parameter_layout());
  ParameterArena statistics(network.statistics_layout());
  nn::initialize(experiment.graph, 1, weights, statistics);
  std::vector<double> velocity(weights.values().size());
  std::vector<std::vector<float>> models;
  for (std::int64_t step = 0; step < experiment.steps; ++step) {
    network.set_weights(weights);
    network.compute_gradient(experiment.batch(step, 0), {step, 0}, gradient);
    const double norm = std::sqrt(squared_norm(gradient.values()));
    const double limit = experiment.algorithm.gradient_clip_norm.value_or(norm);
    if (norm > limit) scale(static_cast<float>(limit / norm), gradient.values());
    for (const ParameterSlice& slice : weights.layout().slices()) {
      const double decay = optim::weight_decay_of(slice, experiment.sgd);
      for (std::size_t i = slice.offset; i < slice.offset + slice.count; ++i) {
        const double decayed = gradient.values()[i] + decay * weights.values()[i];
        velocity[i] = static_cast<double>(experiment.sgd.momentum) * velocity[i] + decayed;
        const double direction = experiment.sgd.nesterov
                                     ? decayed + static_cast<double>(experiment.sgd.momentum) * velocity[i]
                                     : velocity[i];
        weights.values()[i] -= static_cast<float>(experiment.learning_rate(step) * direction);
      }
    }
    models.emplace_back(weights.values().begin(), weights.values().end());
  }
  return models;
}

void check_same_on_all_ranks(const std::vector<Trajectory>& trajectories) {
  for (const Trajectory& trajectory : trajectories) {
    CHECK(trajectory.mean_models == trajectories[0].mean_models);
    CHECK(trajectory.mean_statistics == trajectories[0].mean_statistics);
  }
}

void check_close(const Trajectory& actual, const Trajectory& expected, double tolerance) {
  for (std::size_t step = 0; step < expected.mean_models.size(); ++step) {
    CAPTURE(step);
    CHECK(relative_difference(actual.mean_models[step], expected.mean_models[step]) < tolerance);
    CHECK(actual.reports[step].loss == Approx(expected.reports[step].loss).epsilon(tolerance));
  }
  CHECK(relative_difference(actual.mean_statistics, expected.mean_statistics) < tolerance);
}

}  // namespace

TEST_CASE("one worker is plain momentum SGD, step by step") {
  for (const bool with_norm : {true, false}) {
    const nn::Graph graph = with_norm ? network_with_norm() : network_without_norm();
    const Batches batches(graph, kImages, 1, kSteps);
    Experiment experiment = experiment_of(graph, batches);
    for (const bool nesterov : {false, true}) {
      for (const std::optional<double> clip : {std::optional<double>(), std::optional<double>(0.3)}) {
        experiment.sgd.nesterov = nesterov;
        experiment.algorithm.gradient_clip_norm = clip;
        const std::vector<std::vector<float>> expected = momentum_sgd_by_hand(experiment);
        for (const std::string name : kRules) {
          CAPTURE(with_norm);
          CAPTURE(nesterov);
          CAPTURE(clip.has_value());
          CAPTURE(name);
          const Trajectory actual = run_as(experiment, name)[0];
          for (std::size_t step = 0; step < kSteps; ++step) {
            CHECK(relative_difference(actual.mean_models[step], expected[step]) < 1e-6);
          }
        }
      }
    }
  }
}

TEST_CASE("running statistics move a tenth of the way to the batch's at every step") {
  const nn::Graph graph = network_with_norm();
  const Batches batches(graph, kImages, 1, kSteps);
  Experiment experiment = experiment_of(graph, batches);
  experiment.steps = 1;
  const std::vector<float> actual = run(experiment)[0].mean_statistics;

  nn::Network network(graph, {.batch = kImages});
  ParameterArena weights(network.parameter_layout());
  ParameterArena gradient(network.parameter_layout());
  ParameterArena first(network.statistics_layout());
  nn::initialize(graph, 1, weights, first);
  network.set_weights(weights);
  network.compute_gradient(batches.at(0, 0), {}, gradient);
  const std::span<const float> batch = network.batch_statistics().values();
  for (std::size_t i = 0; i < actual.size(); ++i) {
    CHECK(actual[i] == Approx(0.9 * first.values()[i] + 0.1 * batch[i]).epsilon(1e-6));
  }
}

TEST_CASE("the mean model is the mean of the workers' weights, the same bits on all ranks") {
  const nn::Graph graph = linear_model();
  for (const int ranks : {2, 3, 4}) {
    CAPTURE(ranks);
    const Batches batches(graph, kImages, ranks, kSteps);
    Experiment experiment = experiment_of(graph, batches);
    experiment.ranks = ranks;
    const auto count = static_cast<std::size_t>(ranks);
    std::vector<std::vector<std::vector<double>>> local(count);  // by rank and step
    std::vector<std::vector<std::vector<float>>> mean(count);
    run_ranks(experiment, [&](Rank& rank) {
      const auto number = static_cast<std::size_t>(rank.number());
      for (std::int64_t step = 0; step < kSteps; ++step) {
        rank.step(step);
        local[number].push_back(network_weights(rank.network()));
        mean[number].push_back(rank.drain());
      }
    });
    for (std::size_t step = 0; step < kSteps; ++step) {
      for (std::size_t i = 0; i < mean[0][step].size(); ++i) {
        double sum = 0;
        for (std::size_t rank = 0; rank < count; ++rank) {
          sum += local[rank][step][i];
          CHECK(mean[rank][step][i] == mean[0][step][i]);
        }
        CHECK(std::abs(sum / ranks - mean[0][step][i]) < 1e-6);
      }
      CHECK(norm(local[0][step].begin(), local[0][step].end()) !=
            Approx(norm(local[1][step].begin(), local[1][step].end())).epsilon(1e-4));
    }
  }
}

TEST_CASE("lambda0 = 0 is s3gd bit for bit, and so is lambda_max = 0") {
  const nn::Graph graph = network_with_norm();
  const Batches batches(graph, kImages, 3, kSteps);
  Experiment experiment = experiment_of(graph, batches);
  experiment.ranks = 3;
  const Trajectory s3gd = run_as(experiment, "s3gd")[0];
  const Trajectory dc_s3gd = run_as(experiment, "dc_s3gd")[0];
  CHECK(relative_difference(dc_s3gd.mean_models.back(), s3gd.mean_models.back()) > 1e-4);

  experiment.algorithm.lambda0 = 0;
  CHECK(run_as(experiment, "dc_s3gd")[0].mean_models == s3gd.mean_models);
  experiment.algorithm.lambda0 = 0.2;
  experiment.algorithm.lambda_max = 0;
  CHECK(run_as(experiment, "dc_s3gd")[0].mean_models == s3gd.mean_models);
}

TEST_CASE("lambda_max is the largest lambda there is") {
  const nn::Graph graph = network_with_norm();
  const Batches batches(graph, kImages, 2, kSteps);
  Experiment experiment = experiment_of(graph, batches);
  experiment.ranks = 2;
  const Trajectory free = run(experiment)[0];
  experiment.algorithm.lambda_max = 0.5 * free.reports[1].lambda;
  const Trajectory capped = run(experiment)[0];
  CHECK(capped.reports[1].lambda == Approx(*experiment.algorithm.lambda_max).epsilon(1e-6));
  for (const StepReport& report : capped.reports) CHECK(report.lambda <= *experiment.algorithm.lambda_max * (1 + 1e-6));
}

TEST_CASE("workers on the same batch: the distance is rounding and never becomes a direction") {
  const nn::Graph graph = network_with_norm();
  const Batches batches(graph, kImages, 1, kSteps);
  Experiment experiment = experiment_of(graph, batches);
  experiment.batch = [&](std::int64_t step, int) { return batches.at(step, 0); };
  const std::vector<std::vector<float>> expected = momentum_sgd_by_hand(experiment);
  for (const LambdaNorm lambda_norm : {LambdaNorm::global, LambdaNorm::tensor}) {
    for (const int workers : {2, 3, 4}) {
      for (const int ranks : {1, workers}) {
        CAPTURE(workers);
        CAPTURE(ranks);
        experiment.ranks = ranks;
        experiment.algorithm.workers_per_rank = workers / ranks;
        experiment.algorithm.lambda_norm = lambda_norm;
        const Trajectory trajectory = run(experiment)[0];
        double largest_distance = 0;
        for (std::size_t step = 0; step < kSteps; ++step) {
          CHECK(relative_difference(trajectory.mean_models[step], expected[step]) < 1e-5);
          CHECK(trajectory.reports[step].lambda == 0);
          largest_distance = std::max(largest_distance, trajectory.reports[step].distance_norm);
        }
        if (workers == 2) CHECK(largest_distance == 0);
        if (workers == 3) CHECK(largest_distance > 0);  // (u + u + u) / 3 need not be u
      }
    }
  }
}

// With η = 1 and neither momentum nor decay, a worker's update is −g̃ with the correction and −g without. At the second
// step both have the same g and D, so the corrections can be read off the workers' weights.
TEST_CASE("the correction is lambda0 of the gradient's norm, as a whole or tensor by tensor") {
  const nn::Graph graph = linear_model();
  constexpr int kRanks = 3;
  const Batches batches(graph, kImages, kRanks, 2);
  Experiment experiment = experiment_of(graph, batches);
  experiment.ranks = kRanks;
  experiment.sgd = {.momentum = 0, .weight_decay = 0};
  experiment.learning_rate = [](std::int64_t) { return 1.0; };

  struct SecondStep {
    std::vector<double> mean_weights;   ///< m, after the first step
    std::vector<double> local_weights;  ///< m + u
    double gradient_norm = 0;
  };
  const auto second_step = [&](const std::string& name) {
    experiment.algorithm.name = name;
    std::vector<SecondStep> result(kRanks);
    run_ranks(experiment, [&](Rank& rank) {
      SecondStep& mine = result[static_cast<std::size_t>(rank.number())];
      rank.step(0);
      const std::vector<float> mean = rank.drain();
      mine.mean_weights.assign(mean.begin(), mean.end());
      rank.step(1);
      mine.local_weights = network_weights(rank.network());
      rank.drain();
      mine.gradient_norm = rank.reports()[1].gradient_norm;
    });
    return result;
  };

  constexpr std::size_t kBias = kInputs * kClasses;  // first element of the second tensor
  constexpr double kTolerance = 1e-4;                // the weights are read off in fp32
  for (const double lambda0 : {0.2, 0.5}) {
    for (const std::optional<double> clip : {std::optional<double>(), std::optional<double>(0.1)}) {
      CAPTURE(lambda0);
      CAPTURE(clip.has_value());
      experiment.algorithm.lambda0 = lambda0;
      experiment.algorithm.gradient_clip_norm = clip;
      const std::vector<SecondStep> plain = second_step("s3gd");
      if (clip) CHECK(plain[0].gradient_norm == Approx(*clip).epsilon(1e-6));
      experiment.algorithm.lambda_norm = LambdaNorm::global;
      const std::vector<SecondStep> global = second_step("dc_s3gd");
      experiment.algorithm.lambda_norm = LambdaNorm::tensor;
      const std::vector<SecondStep> tensor = second_step("dc_s3gd");

      for (std::size_t rank = 0; rank < kRanks; ++rank) {
        const std::vector<double> gradient = difference(plain[rank].mean_weights, plain[rank].local_weights);
        const std::vector<double> whole = difference(plain[rank].local_weights, global[rank].local_weights);
        const std::vector<double> by_tensor = difference(plain[rank].local_weights, tensor[rank].local_weights);
        CHECK(norm(whole.begin(), whole.end()) ==
              Approx(lambda0 * norm(gradient.begin(), gradient.end())).epsilon(kTolerance).scale(0));
        const double ratio_of_weights =
            norm(by_tensor.begin(), by_tensor.begin() + kBias) / norm(gradient.begin(), gradient.begin() + kBias);
        const double ratio_of_bias =
            norm(by_tensor.begin() + kBias, by_tensor.end()) / norm(gradient.begin() + kBias, gradient.end());
        CHECK(ratio_of_weights == Approx(lambda0).epsilon(kTolerance).scale(0));
        CHECK(ratio_of_bias == Approx(lambda0).epsilon(kTolerance).scale(0));
        CHECK(norm(whole.begin(), whole.begin() + kBias) !=
              Approx(norm(by_tensor.begin(), by_tensor.begin() + kBias)).epsilon(10 * kTolerance).scale(0));
      }
    }
  }
}

TEST_CASE("four workers follow the same trajectory on 4, 2 and 1 ranks") {
  const nn::Graph graph = network_with_norm(0.3F);
  constexpr int kWorkers = 4;
  const Batches batches(graph, kImages, kWorkers, kSteps);
  Experiment experiment = experiment_of(graph, batches);
  for (const std::string name : kRules) {
    for (const LambdaNorm lambda_norm : {LambdaNorm::global, LambdaNorm::tensor}) {
      if (name != "dc_s3gd" && lambda_norm == LambdaNorm::tensor) continue;
      CAPTURE(name);
      CAPTURE(static_cast<int>(lambda_norm));
      experiment.algorithm.lambda_norm = lambda_norm;
      experiment.ranks = 4;
      experiment.algorithm.workers_per_rank = 1;
      const std::vector<Trajectory> expected = run_as(experiment, name);
      check_same_on_all_ranks(expected);
      for (const int ranks : {2, 1}) {
        CAPTURE(ranks);
        experiment.ranks = ranks;
        experiment.algorithm.workers_per_rank = kWorkers / ranks;
        const std::vector<Trajectory> actual = run_as(experiment, name);
        check_same_on_all_ranks(actual);
        check_close(actual[0], expected[0], 2e-5);
      }
    }
  }
}

TEST_CASE("looking at the mean model never changes the trajectory") {
  const nn::Graph graph = network_with_norm();
  const Batches batches(graph, kImages, 4, kSteps);
  Experiment experiment = experiment_of(graph, batches);
  for (const std::string name : kRules) {
    for (const int ranks : {1, 2, 4}) {
      CAPTURE(name);
      CAPTURE(ranks);
      experiment.ranks = ranks;
      experiment.algorithm.workers_per_rank = 4 / ranks;
      const Trajectory undisturbed = run_as(experiment, name, Look::at_the_end)[0];
      for (const Look look : {Look::after_each_step, Look::after_each_step_and_use_the_network}) {
        const Trajectory disturbed = run_as(experiment, name, look)[0];
        CHECK(disturbed.mean_models.back() == undisturbed.mean_models.back());
        CHECK(disturbed.mean_statistics == undisturbed.mean_statistics);
        for (std::size_t step = 0; step < kSteps; ++step) {
          CHECK(disturbed.reports[step].loss == undisturbed.reports[step].loss);
          CHECK(disturbed.reports[step].lambda == undisturbed.reports[step].lambda);
        }
      }
    }
  }
}

TEST_CASE("drain before the first step is the first model, and twice the same") {
  const nn::Graph graph = network_with_norm();
  const Batches batches(graph, kImages, 2, kSteps);
  Experiment experiment = experiment_of(graph, batches);
  experiment.ranks = 2;
  ParameterArena first(graph.parameter_layout());
  ParameterArena statistics(graph.statistics_layout());
  nn::initialize(graph, 1, first, statistics);
  for (const std::string name : kRules) {
    experiment.algorithm.name = name;
    bool starts_there[2] = {};
    bool stays[2] = {};
    run_ranks(experiment, [&](Rank& rank) {
      starts_there[rank.number()] = std::ranges::equal(rank.drain(), first.values());
      rank.step(0);
      const std::vector<float> once = rank.drain();
      stays[rank.number()] = rank.drain() == once;
    });
    for (const int rank : {0, 1}) {
      CHECK(starts_there[rank]);
      CHECK(stays[rank]);
    }
  }
}

TEST_CASE("ssgd is momentum SGD on the large batch") {
  const nn::Graph graph = network_without_norm();
  constexpr int kWorkers = 4;
  const Batches batches(graph, kImages, kWorkers, kSteps);
  Experiment large = experiment_of(graph, batches);
  large.images_per_batch = kWorkers * kImages;
  large.batch = [&](std::int64_t step, int) {
    const nn::BatchView first = batches.at(step, 0);  // the workers' batches follow each other
    return nn::BatchView{first.images, first.labels, kWorkers * kImages};
  };
  const std::vector<std::vector<float>> expected = momentum_sgd_by_hand(large);
  for (const int ranks : {4, 2, 1}) {
    CAPTURE(ranks);
    Experiment experiment = experiment_of(graph, batches);
    experiment.ranks = ranks;
    experiment.algorithm.workers_per_rank = kWorkers / ranks;
    const Trajectory trajectory = run_as(experiment, "ssgd")[0];
    for (std::size_t step = 0; step < kSteps; ++step) {
      CHECK(relative_difference(trajectory.mean_models[step], expected[step]) < 1e-5);
    }
  }
}

TEST_CASE("a batch in parts has the gradient of the whole batch, dropout and mixed labels included") {
  nn::Graph graph({3, 5, 5});
  const nn::ValueId value =
      graph.add(nn::Relu{}, graph.add(nn::Convolution{.oc = 8, .kernel = 3}, graph.input(), "conv"));
  graph.add(nn::Linear{.oc = kClasses}, graph.add(nn::Dropout{.probability = 0.3F}, value), "fc");
  constexpr int kWorkers = 2;
  const Batches batches(graph, 12, kWorkers, kSteps);
  const auto mixed_batch = [&](std::int64_t step, int worker) {
    nn::BatchView batch = batches.at(step, worker);
    batch.other_labels = batches.at(step, 1 - worker).labels;
    batch.label_share = 0.7F;
    return batch;
  };
  for (const std::string name : {"ssgd", "dc_s3gd"}) {
    for (const int ranks : {1, 2}) {
      CAPTURE(name);
      CAPTURE(ranks);
      Experiment experiment = experiment_of(graph, batches);
      experiment.batch = mixed_batch;
      experiment.ranks = ranks;
      experiment.algorithm.workers_per_rank = kWorkers / ranks;
      const Trajectory whole = run_as(experiment, name)[0];
      for (const int parts : {2, 3}) {
        CAPTURE(parts);
        experiment.algorithm.micro_batches = parts;
        const Trajectory in_parts = run_as(experiment, name)[0];
        for (std::size_t step = 0; step < kSteps; ++step) {
          CHECK(relative_difference(in_parts.mean_models[step], whole.mean_models[step]) < 1e-5);
          CHECK(in_parts.reports[step].loss == Approx(whole.reports[step].loss).epsilon(1e-5));
        }
      }
    }
  }
}

TEST_CASE("gradient_clip_norm is the largest norm of a gradient") {
  const nn::Graph graph = network_with_norm();
  const Batches batches(graph, kImages, 2, kSteps);
  Experiment experiment = experiment_of(graph, batches);
  experiment.ranks = 2;
  for (const std::string name : kRules) {
    CAPTURE(name);
    experiment.algorithm.gradient_clip_norm.reset();
    const double free_norm = run_as(experiment, name)[0].reports[0].gradient_norm;
    const double limit = 0.25 * free_norm;
    experiment.algorithm.gradient_clip_norm = limit;
    const auto clipped = run_as(experiment, name);
    for (const StepReport& report : clipped[0].reports) {
      CHECK(report.gradient_norm <= limit * (1 + 1e-6));
    }
    experiment.algorithm.gradient_clip_norm = 100 * free_norm;
    CHECK(run_as(experiment, name)[0].reports[0].gradient_norm == free_norm);
  }
}

TEST_CASE("a NaN in one worker's batch stops all ranks at the same step, before the mean model changes") {
  const nn::Graph graph = network_with_norm();
  constexpr int kWorkers = 4;
  constexpr std::int64_t kBadStep = 2;
  Batches batches(graph, kImages, kWorkers, kSteps);
  batches.first_pixel(kBadStep, 1) = std::numeric_limits<float>::quiet_NaN();
  Experiment experiment = experiment_of(graph, batches);
  struct End {
    std::int64_t step = -1;
    bool diverged = false;
    std::string message;
    bool mean_model_kept = false;
  };
  for (const std::string name : kRules) {
    for (const int ranks : {1, 2, 4}) {
      for (const bool drained : {false, true}) {
        CAPTURE(name);
        CAPTURE(ranks);
        CAPTURE(drained);
        experiment.algorithm.name = name;
        experiment.ranks = ranks;
        experiment.algorithm.workers_per_rank = kWorkers / ranks;
        experiment.wire = ranks == 4 ? comm::Wire::int4 : comm::Wire::fp32;
        std::vector<End> ends(static_cast<std::size_t>(ranks));
        run_ranks(experiment, [&](Rank& rank) {
          End& end = ends[static_cast<std::size_t>(rank.number())];
          std::vector<float> before;
          try {
            for (end.step = 0; end.step < kSteps; ++end.step) {
              if (drained) before = rank.drain();
              rank.step(end.step);
            }
          } catch (const Error& error) {
            end.diverged = error.kind() == ErrorKind::diverged;
            end.message = error.what();
            end.mean_model_kept = rank.drained() == before;
          }
        });
        for (const End& end : ends) {
          CHECK(end.step == kBadStep + 1);  // the next step, or the drain before it, is the first to know
          CHECK(end.diverged);
          CHECK(end.message.find("step 3:") == 0);
          if (drained) CHECK(end.mean_model_kept);
        }
      }
    }
  }
}

TEST_CASE("a loss beyond the limit stops all ranks at the same step") {
  const nn::Graph graph = network_with_norm();
  const Batches batches(graph, kImages, 3, kSteps);
  Experiment experiment = experiment_of(graph, batches);
  experiment.ranks = 3;
  for (const std::string name : kRules) {
    CAPTURE(name);
    experiment.loss_limit.reset();
    const std::vector<StepReport> reports = run_as(experiment, name)[0].reports;
    const auto worst = std::ranges::max_element(reports, {}, &StepReport::loss);
    experiment.loss_limit = worst->loss * 1.001;
    CHECK(run_as(experiment, name)[0].reports.size() == kSteps);
    experiment.loss_limit = worst->loss * 0.999;
    const auto first =
        std::ranges::find_if(reports, [&](const StepReport& report) { return report.loss > *experiment.loss_limit; });

    experiment.algorithm.name = name;
    std::vector<std::size_t> reported(3);
    std::vector<std::string> messages(3);
    run_ranks(experiment, [&](Rank& rank) {
      const auto number = static_cast<std::size_t>(rank.number());
      try {
        for (std::int64_t step = 0; step < kSteps; ++step) rank.step(step);
        rank.drain();
      } catch (const Error& error) {
        if (error.kind() == ErrorKind::diverged) messages[number] = error.what();
        reported[number] = rank.reports().size();
      }
    });
    for (const int rank : {0, 1, 2}) {
      CHECK(reported[static_cast<std::size_t>(rank)] == static_cast<std::size_t>(first->step));
      CHECK(messages[static_cast<std::size_t>(rank)].find("run.loss_limit") != std::string::npos);
    }
  }
}

TEST_CASE("updates in bf16 stay the same bits on all ranks and near those in fp32") {
  const nn::Graph graph = network_with_norm();
  const Batches batches(graph, kImages, 3, kSteps);
  Experiment experiment = experiment_of(graph, batches);
  experiment.ranks = 3;
  for (const std::string name : kRules) {
    CAPTURE(name);
    experiment.wire = comm::Wire::fp32;
    const Trajectory fp32 = run_as(experiment, name)[0];
    experiment.wire = comm::Wire::bf16;
    const std::vector<Trajectory> bf16 = run_as(experiment, name);
    check_same_on_all_ranks(bf16);
    const double distance = relative_difference(bf16[0].mean_models.back(), fp32.mean_models.back());
    CHECK(distance > 0);
    CHECK(distance < 0.02);
  }
}

TEST_CASE("updates and gradients on narrow wires stay the same bits on all ranks and near those in fp32") {
  const nn::Graph graph = network_with_norm();
  const Batches batches(graph, kImages, 3, kSteps);
  Experiment experiment = experiment_of(graph, batches);
  experiment.ranks = 3;
  for (const std::string name : kRules) {
    for (const double fresh : {0.0, 0.5}) {
      CAPTURE(name);
      experiment.algorithm.fresh = fresh;
      experiment.wire = comm::Wire::fp32;
      const Trajectory fp32 = run_as(experiment, name)[0];
      for (const auto& [wire, tolerance] : {std::pair{comm::Wire::int8, 0.02}, {comm::Wire::int4, 0.1}}) {
        experiment.wire = wire;
        const std::vector<Trajectory> narrow = run_as(experiment, name);
        check_same_on_all_ranks(narrow);
        const double distance = relative_difference(narrow[0].mean_models.back(), fp32.mean_models.back());
        CHECK(distance > 0);
        CHECK(distance < tolerance);
      }
    }
  }
}

TEST_CASE("on a wire that rounds, workers on the same batch are still never corrected") {
  const nn::Graph graph = network_with_norm();
  const Batches batches(graph, kImages, 1, kSteps);
  Experiment experiment = experiment_of(graph, batches);
  experiment.batch = [&](std::int64_t step, int) { return batches.at(step, 0); };
  for (const comm::Wire wire : {comm::Wire::bf16, comm::Wire::int8, comm::Wire::int4}) {
    experiment.wire = wire;
    for (const LambdaNorm lambda_norm : {LambdaNorm::global, LambdaNorm::tensor}) {
      if (comm::is_narrow(wire) && lambda_norm == LambdaNorm::tensor)
        continue;  // a block may hold parts of two tensors
      experiment.algorithm.lambda_norm = lambda_norm;
      for (const int ranks : {2, 3, 4}) {
        CAPTURE(ranks);
        experiment.ranks = ranks;
        const std::vector<StepReport> reports = run(experiment)[0].reports;
        CHECK(reports[1].distance_norm > 0);
        for (const StepReport& report : reports) CHECK(report.lambda == 0);
      }
    }
  }
}

TEST_CASE("each step is reported once, in order, on all ranks alike") {
  const nn::Graph graph = network_with_norm();
  const Batches batches(graph, kImages, 2, kSteps);
  Experiment experiment = experiment_of(graph, batches);
  experiment.ranks = 2;
  for (const std::string name : kRules) {
    CAPTURE(name);
    const std::vector<Trajectory> trajectories = run_as(experiment, name, Look::at_the_end);
    for (const Trajectory& trajectory : trajectories) {
      REQUIRE(trajectory.reports.size() == kSteps);
      for (std::size_t step = 0; step < kSteps; ++step) {
        CAPTURE(step);
        const StepReport& report = trajectory.reports[step];
        const StepReport& other = trajectories[0].reports[step];
        CHECK(report.step == static_cast<std::int64_t>(step));
        CHECK(report.learning_rate == experiment.learning_rate(report.step));
        CHECK(report.loss == other.loss);
        CHECK(report.gradient_norm == other.gradient_norm);
        CHECK(report.lambda == other.lambda);
        CHECK(report.distance_norm == other.distance_norm);
        CHECK(report.loss > 0);
        CHECK(report.gradient_norm > 0);
        CHECK((report.distance_norm > 0) == (name != "ssgd" && step > 0));
        CHECK((report.lambda > 0) == (name == "dc_s3gd" && step > 0));
        CHECK(report.wait_ms >= 0);
        CHECK(report.all_reduce_ms >= 0);
        CHECK(report.compute_ms > 0);
        CHECK(report.step_ms == Approx(report.compute_ms + report.wait_ms).epsilon(1e-9));
      }
    }
  }
}

TEST_CASE("all-reduces that are waited for between two steps are counted with the second one") {
  const nn::Graph graph = network_with_norm();
  const Batches batches(graph, kImages, 2, kSteps);
  Experiment experiment = experiment_of(graph, batches);
  experiment.ranks = 2;
  for (const std::string name : kRules) {
    CAPTURE(name);
    for (const Trajectory& trajectory : run_as(experiment, name, Look::after_each_step)) {
      for (const StepReport& report : trajectory.reports) {
        CHECK((report.all_reduce_ms > 0) == (report.step > 0));
        CHECK(report.step_ms == Approx(report.compute_ms + report.wait_ms).epsilon(1e-9));
      }
    }
  }
}

TEST_CASE("a step is reported with the next one, or with drain()") {
  const nn::Graph graph = linear_model();
  const Batches batches(graph, kImages, 2, kSteps);
  Experiment experiment = experiment_of(graph, batches);
  experiment.ranks = 2;
  for (const std::string name : kRules) {
    CAPTURE(name);
    experiment.algorithm.name = name;
    std::vector<std::size_t> reported[2];
    run_ranks(experiment, [&](Rank& rank) {
      std::vector<std::size_t>& mine = reported[rank.number()];
      for (const std::int64_t step : {0, 1}) {
        rank.step(step);
        mine.push_back(rank.reports().size());
      }
      rank.drain();
      mine.push_back(rank.reports().size());
    });
    for (const int rank : {0, 1}) CHECK(reported[rank] == std::vector<std::size_t>{0, 1, 2});
  }
}

TEST_CASE("the first loss and gradient norm are the means over the workers at the first weights") {
  const nn::Graph graph = network_with_norm();
  constexpr int kWorkers = 3;
  const Batches batches(graph, kImages, kWorkers, 1);
  Experiment experiment = experiment_of(graph, batches);
  experiment.ranks = kWorkers;
  experiment.steps = 1;

  nn::Network network(graph, {.batch = kImages});
  ParameterArena weights(network.parameter_layout());
  ParameterArena gradient(network.parameter_layout());
  ParameterArena statistics(network.statistics_layout());
  nn::initialize(graph, 1, weights, statistics);
  network.set_weights(weights);
  double loss = 0;
  double gradient_norm = 0;
  for (int worker = 0; worker < kWorkers; ++worker) {
    loss += network.compute_gradient(batches.at(0, worker), {0, worker}, gradient).loss_sum / kImages;
    gradient_norm += std::sqrt(squared_norm(gradient.values()));
  }
  const StepReport report = run_as(experiment, "dc_s3gd")[0].reports[0];
  CHECK(report.loss == Approx(loss / kWorkers).epsilon(1e-6));
  CHECK(report.gradient_norm == Approx(gradient_norm / kWorkers).epsilon(1e-6));
  CHECK(run_as(experiment, "ssgd")[0].reports[0].loss == Approx(loss / kWorkers).epsilon(1e-6));
}

TEST_CASE("the table's count of arrays is what a rule's state has") {
  const nn::Graph graph = linear_model();
  const Batches batches(graph, kImages, 1, 1);
  Experiment experiment = experiment_of(graph, batches);
  for (const RuleInfo& rule : rules()) {
    for (const auto& [count_of_workers, wire] :
         {std::pair{1, comm::Wire::fp32}, {3, comm::Wire::bf16}, {3, comm::Wire::int4}}) {
      const int workers = count_of_workers;
      CAPTURE(rule.name);
      experiment.algorithm.name = rule.name;
      experiment.algorithm.workers_per_rank = workers;
      experiment.wire = wire;
      const ArrayCount count = rule.arrays(experiment.algorithm, wire);
      run_ranks(experiment, [&](Rank& rank) {
        const RuleState state = rank.rule().state();
        CHECK(state.shared.size() == count.saved_shared);
        REQUIRE(state.workers.size() == static_cast<std::size_t>(workers));
        for (const auto& arrays : state.workers) CHECK(arrays.size() == count.saved_per_worker);
        CHECK(state.rank.size() == count.saved_per_rank);
      });
    }
  }
}

TEST_CASE("a tail is summed over the ranks and comes with its step") {
  const nn::Graph graph = linear_model();
  const Batches batches(graph, kImages, 3, kSteps);
  for (const RuleInfo& rule : rules()) {
    CAPTURE(rule.name);
    comm::run_ranks_as_threads(3, {}, [&](comm::Communicator& communicator) {
      omp_set_num_threads(1);
      nn::Network network(graph, {.batch = kImages});
      RunningStatistics statistics(network.statistics_layout());
      const auto trained = make_rule({communicator, network, statistics}, {.algorithm = {.name = rule.name}},
                                     ParameterArena(network.parameter_layout()));
      std::vector<StepReport> reports;
      for (std::int64_t step = 0; step < kSteps; ++step) {
        trained->compute_gradients(step, [&] { return batches.at(step, communicator.rank()); });
        if (const auto report = trained->receive()) reports.push_back(*report);
        const auto mine = static_cast<float>(communicator.rank() + step);
        trained->update_and_send(0.01, {mine, 1, 0});
      }
      std::ranges::copy(trained->drain(), std::back_inserter(reports));
      REQUIRE(reports.size() == kSteps);
      for (const StepReport& report : reports) {
        CHECK(report.tail == Tail{static_cast<float>(3 + 3 * report.step), 3, 0});
      }
    });
  }
}

TEST_CASE("a rule that does not exist is refused with the names of those that do") {
  CHECK_THROWS_WITH_AS(find_rule("sgd"), "there is no update rule \"sgd\"; there are dc_s3gd, s3gd, ssgd", Error);
}
