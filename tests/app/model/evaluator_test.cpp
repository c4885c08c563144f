#include "app/model/evaluator.h"

#include <cmath>
#include <memory>
#include <vector>

#include <doctest/doctest.h>
#include <omp.h>

#include "comm/thread_world.h"
#include "data/batch_loader.h"
#include "data/formats.h"
#include "nn/graph/layer_options.h"

using namespace dcs3gd;
using namespace dcs3gd::app;
using doctest::Approx;

namespace {

constexpr int kClasses = 10;
constexpr std::int64_t kEvalImages = 37;  // no multiple of any batch or number of ranks below

data::DataOptions data_options() {
  data::DataOptions options;
  options.image_size = 8;
  options.synthetic = {.train_images = 64, .eval_images = kEvalImages};
  return options;
}

nn::Graph small_network() {
  nn::Graph graph({3, 8, 8});
  nn::ValueId value =
      graph.add(nn::Convolution{.oc = 4, .kernel = 3, .stride = 2, .padding = 1}, graph.input(), "conv");
  value = graph.add(nn::BatchNorm{.relu = true}, value, "bn");
  graph.add(nn::Linear{.oc = kClasses}, value, "fc");
  return graph;
}

/// The first weights, and statistics that are not the first ones.
struct State {
  explicit State(const nn::Graph& graph) : weights(graph.parameter_layout()), statistics(graph.statistics_layout()) {
    nn::initialize(graph, 1, weights, statistics);
    for (float& value : statistics.values()) value += 0.25F;
  }
  ParameterArena weights;
  ParameterArena statistics;
};

std::shared_ptr<const data::Dataset> eval_images() {
  return data::open_dataset(data_options(), data::Part::eval, 1, kClasses);
}

/// By rank.
std::vector<Evaluation> evaluate(int ranks, int batch) {
  std::vector<Evaluation> results(static_cast<std::size_t>(ranks));
  const data::DataOptions options = data_options();
  comm::run_ranks_as_threads(ranks, {}, [&](comm::Communicator& communicator) {
    omp_set_num_threads(1);
    const nn::Graph graph = small_network();
    const State state(graph);
    nn::Network network(graph, {.batch = batch, .label_smoothing = 0.1F});
    Evaluator evaluator(communicator, network, eval_images(), options, 0);
    Evaluation& result = results[static_cast<std::size_t>(communicator.rank())];
    evaluator.evaluate(state.weights, state.statistics);
    result = evaluator.evaluate(state.weights, state.statistics);
  });
  return results;
}

/// One image after the other, losses and ranks of the labels from the logits.
Evaluation evaluate_naively() {
  omp_set_num_threads(1);
  const nn::Graph graph = small_network();
  const State state(graph);
  nn::Network network(graph, {.batch = 1});
  network.set_weights(state.weights);
  network.set_running_statistics(state.statistics);
  data::BatchLoader loader(eval_images(), data_options(),
                           {.part = data::Part::eval, .workers = 1, .batch_per_worker = 1}, 0);
  Evaluation sum;
  while (const data::Batch* batch = loader.next()) {
    network.evaluate({batch->images.data(), batch->labels.data(), 1});
    const float of_label = network.logits()[static_cast<std::size_t>(batch->labels[0])];
    double exponentials = 0;
    int larger = 0;
    for (const float logit : network.logits()) {
      exponentials += std::exp(static_cast<double>(logit) - of_label);
      if (logit > of_label) ++larger;
    }
    sum.loss += std::log(exponentials);
    sum.top1 += larger < 1;
    sum.top5 += larger < 5;
    ++sum.images;
  }
  const auto images = static_cast<double>(sum.images);
  return {.top1 = sum.top1 / images, .top5 = sum.top5 / images, .loss = sum.loss / images, .images = sum.images};
}

}  // namespace

TEST_CASE("every image counts exactly once, on any number of ranks and in any batch") {
  const Evaluation expected = evaluate_naively();
  CHECK(expected.images == kEvalImages);
  CHECK(expected.top5 > expected.top1);
  for (const int ranks : {1, 2, 3}) {
    for (const int batch : {4, 16, 64}) {
      CAPTURE(ranks);
      CAPTURE(batch);
      const std::vector<Evaluation> results = evaluate(ranks, batch);
      for (const Evaluation& result : results) {
        CHECK(result.images == kEvalImages);
        CHECK(result.top1 == Approx(expected.top1).epsilon(1e-12));
        CHECK(result.top5 == Approx(expected.top5).epsilon(1e-12));
        CHECK(result.loss == Approx(expected.loss).epsilon(1e-5));
        CHECK(result.loss == results[0].loss);
      }
    }
  }
}
