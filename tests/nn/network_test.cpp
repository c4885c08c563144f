#include "nn/network.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <memory>

#include <doctest/doctest.h>
#include <omp.h>

#include "core/error.h"
#include "core/vector_math.h"
#include "nn/graph/layer_options.h"
#include "nn/onednn/cpu.h"
#include "nn/plan/planner.h"
#include "tests/nn/network_test_support.h"
#include "tests/support/named_networks.h"

using namespace dcs3gd;
using namespace dcs3gd::nn;
using namespace dcs3gd::nn::test;
using dcs3gd::test::build_model;
using dcs3gd::test::ModelOptions;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr PassIdentity kPass{.step = 2, .worker = 1};

/// Every layer kind in a small network with a residual branch.
Graph all_layers() {
  Graph graph({3, 9, 9});
  ValueId value = graph.add(Convolution{.oc = 17, .kernel = 3, .padding = 1, .bias = true}, graph.input(), "conv1");
  value = graph.add(Pooling{.kernel = 3, .stride = 2, .padding = 1}, graph.add(Relu{}, value));
  ValueId branch = graph.add(BatchNorm{.relu = true}, graph.add(Convolution{.oc = 17}, value, "conv2"), "bn1");
  branch = graph.add(Convolution{.oc = 17, .kernel = 3, .padding = 1}, branch, "conv3");
  value = graph.add(Addition{.relu = true}, {branch, value});
  value = graph.add(Relu{}, graph.add(Linear{.oc = 33}, graph.add(GlobalAveragePooling{}, value), "fc1"));
  graph.add(Linear{.oc = 7}, graph.add(Dropout{}, value), "fc2");
  return graph;
}

bool bitwise_equal(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

ErrorKind kind_of_error(const std::function<void()>& function, const std::string& part_of_message) {
  try {
    function();
  } catch (const Error& error) {
    CAPTURE(error.what());
    CHECK(std::string(error.what()).find(part_of_message) != std::string::npos);
    return error.kind();
  }
  FAIL("nothing was thrown");
  return {};
}

}  // namespace

TEST_CASE("evaluation over ranges and partial batches equals evaluation image by image") {
  const Graph graph = all_layers();
  const RandomState state(graph);
  const auto classes = static_cast<std::size_t>(graph.shape(graph.output()).channels);
  PreparedNetwork single(graph, {.batch = 1}, state);
  single.network.set_running_statistics(state.statistics);
  // Ranges of 16, of 16 (twice), of 2 and of 1 image; 7 in one piece.
  for (const int batch : {16, 32, 34, 37, 7}) {
    CAPTURE(batch);
    const RandomBatch images(graph, batch);
    PreparedNetwork whole(graph, {.batch = batch}, state);
    for (const int count : {1, 5, batch - 1, batch}) {
      CAPTURE(count);
      RandomBatch partial = images;
      // What lies after the valid images must not matter.
      std::fill(partial.images.begin() + count * static_cast<std::ptrdiff_t>(images.elements_per_image),
                partial.images.end(), kNan);
      const BatchResult result = whole.network.evaluate(partial.view(count));
      const std::vector<float> logits = copy(whole.network.logits());
      REQUIRE(logits.size() == static_cast<std::size_t>(batch) * classes);

      BatchResult expected;
      for (int image = 0; image < count; ++image) {
        expected += single.network.evaluate(images.view(image, 1));
        const auto first = static_cast<std::size_t>(image) * classes;
        const std::vector<double> expected_logits(single.network.logits().begin(), single.network.logits().end());
        CHECK(relative_distance(std::span(logits).subspan(first, classes), expected_logits) < 1e-5);
      }
      CHECK(result.images == count);
      CHECK(result.loss_sum == doctest::Approx(expected.loss_sum).epsilon(1e-5));
      CHECK(result.correct_top1 == expected.correct_top1);
      CHECK(result.correct_top5 == expected.correct_top5);
    }
  }
}

TEST_CASE("an evaluation between two passes changes neither gradient nor batch statistics") {
  const Graph graph = all_layers();
  const RandomState state(graph);
  const RandomBatch batch(graph, 6);
  const RandomBatch other(graph, 6, 2);
  PreparedNetwork engine(graph, {.batch = 6}, state);
  engine.network.compute_gradient(batch.view(), kPass, engine.gradient);
  const std::vector<float> gradient = copy(engine.gradient.values());
  const std::vector<float> statistics = copy(engine.network.batch_statistics().values());

  engine.network.evaluate(other.view());
  CHECK(bitwise_equal(engine.network.batch_statistics().values(), statistics));
  engine.network.compute_gradient(batch.view(), kPass, engine.gradient);
  CHECK(bitwise_equal(engine.gradient.values(), gradient));
  CHECK(bitwise_equal(engine.network.batch_statistics().values(), statistics));
}

TEST_CASE("the same pass gives the same bits, in one network and in two") {
  const Graph graph = all_layers();
  const RandomState state(graph);
  const RandomBatch batch(graph, 6);
  for_threads_1_and_2([&](int threads) {
    CAPTURE(threads);
    PreparedNetwork first(graph, {.batch = 6}, state);
    PreparedNetwork second(graph, {.batch = 6}, state);
    second.network.compute_gradient(batch.view(), kPass, second.gradient);
    for (int repetition = 0; repetition < 10; ++repetition) {
      first.network.compute_gradient(batch.view(), kPass, first.gradient);
      CHECK(bitwise_equal(first.gradient.values(), second.gradient.values()));
    }
  });
}

TEST_CASE("training in ranges of images computes what training over whole layers computes") {
  // One thread takes two images of the first layers at a time, in bf16 four; sixteen threads take all.
  Graph graph({3, 128, 128});
  ValueId value = graph.add(Convolution{.oc = 16, .kernel = 3, .padding = 1}, graph.input(), "stem");
  value = graph.add(BatchNorm{.relu = true}, value, "bn0");
  ValueId branch = graph.add(Convolution{.oc = 16, .kernel = 3, .padding = 1}, value, "conv1");
  branch = graph.add(BatchNorm{.relu = true}, branch, "bn1");
  branch = graph.add(BatchNorm{}, graph.add(Convolution{.oc = 17}, branch, "conv2"), "bn2");
  value = graph.add(BatchNorm{}, graph.add(Convolution{.oc = 17}, value, "shortcut"), "bn3");
  value = graph.add(Addition{.relu = true}, {branch, value});
  value = graph.add(BatchNorm{.relu = true}, graph.add(Convolution{.oc = 16, .stride = 2}, value, "conv3"), "bn4");
  graph.add(Linear{.oc = 7}, graph.add(GlobalAveragePooling{}, value), "fc");
  const RandomState state(graph);
  constexpr int kBatch = 16;
  const RandomBatch batch(graph, kBatch);
  const int before = omp_get_max_threads();
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    if (!supports(precision)) continue;
    const auto pass = [&](int threads) {
      omp_set_num_threads(threads);
      auto engine =
          std::make_unique<PreparedNetwork>(graph, NetworkOptions{.batch = kBatch, .precision = precision}, state);
      engine->network.compute_gradient(batch.view(), kPass, engine->gradient);
      return engine;
    };
    const auto range = [&] {
      return training_range(kBatch, {.src = {16, 128, 128},
                                     .options = {.oc = 16, .kernel = 3, .padding = 1},
                                     .images = kBatch,
                                     .precision = precision});
    };
    const auto in_ranges = pass(1);
    CHECK(range() == (precision == Precision::bf16 ? 4 : 2));
    const auto whole = pass(16);
    CHECK(range() == kBatch);
    const auto expected = [](const ParameterArena& of) {
      return std::vector<double>(of.values().begin(), of.values().end());
    };
    const double tolerance = precision == Precision::fp32 ? 1e-3 : 2e-2;  // of sums that all but cancel
    check_tensors_close(*whole->network.parameter_layout(), in_ranges->gradient.values(), expected(whole->gradient),
                        tolerance);
    const ParameterArena& statistics = whole->network.batch_statistics();
    check_tensors_close(statistics.layout(), in_ranges->network.batch_statistics().values(), expected(statistics),
                        1e-5);
  }
  omp_set_num_threads(before);
}

TEST_CASE("every slice of the gradient is announced once, when it is final, roughly from back to front") {
  const Graph graph = build_model({.name = "resnet20", .image_size = 8});
  const RandomState state(graph);
  const RandomBatch batch(graph, 3);
  PreparedNetwork engine(graph, {.batch = 3}, state);
  const auto& slices = engine.network.parameter_layout()->slices();
  std::map<std::string, std::vector<float>> announced;
  std::vector<std::string> order;
  engine.network.compute_gradient(batch.view(), kPass, engine.gradient,
                                  {.on_gradient_ready = [&](const ParameterSlice& slice) {
                                    order.push_back(slice.name);
                                    announced[slice.name] = copy(engine.gradient.slice(slice));
                                  }});
  CHECK(order.size() == slices.size());
  for (const ParameterSlice& slice : slices) {
    CAPTURE(slice.name);
    REQUIRE(announced.contains(slice.name));
    CHECK(bitwise_equal(announced[slice.name], engine.gradient.slice(slice)));
  }
  CHECK(order.front().starts_with("fc."));
  CHECK(order.back() == "conv1.weight");
  const auto place = [&](const char* name) { return std::ranges::find(order, name); };
  CHECK(place("layer3.0.conv1.weight") < place("layer2.0.conv1.weight"));
  CHECK(place("layer2.0.conv1.weight") < place("layer1.0.conv1.weight"));
}

TEST_CASE(
    "weights that are written when they are needed count in the pass, each asked for once, from the first layer on") {
  const Graph graph = build_model({.name = "resnet20", .image_size = 8});
  const RandomState state(graph);
  const RandomBatch batch(graph, 3);
  PreparedNetwork engine(graph, {.batch = 3}, state);
  engine.network.compute_gradient(batch.view(), kPass, engine.gradient);
  const std::vector<float> expected = copy(engine.gradient.values());
  ParameterArena zeros(engine.network.parameter_layout());
  engine.network.set_weights(zeros);

  const auto& slices = engine.network.parameter_layout()->slices();
  std::vector<std::string> order;
  engine.network.compute_gradient(
      batch.view(), kPass, engine.gradient, {.on_weights_needed = [&](const ParameterSlice& slice) {
        order.push_back(slice.name);
        engine.network.set_weights(static_cast<std::size_t>(&slice - slices.data()), state.weights.slice(slice));
      }});
  CHECK(bitwise_equal(engine.gradient.values(), expected));
  CHECK(order.size() == slices.size());
  CHECK(order.front() == "conv1.weight");
  CHECK(order.back().starts_with("fc."));
}

TEST_CASE("without a callback a pass gives the same gradient") {
  const Graph graph = all_layers();
  const RandomState state(graph);
  const RandomBatch batch(graph, 3);
  PreparedNetwork engine(graph, {.batch = 3}, state);
  engine.network.compute_gradient(batch.view(), kPass, engine.gradient,
                                  {.on_gradient_ready = [](const ParameterSlice&) {}});
  const std::vector<float> gradient = copy(engine.gradient.values());
  engine.network.compute_gradient(batch.view(), kPass, engine.gradient);
  CHECK(bitwise_equal(engine.gradient.values(), gradient));
}

TEST_CASE("gradients may go to another arena at each pass") {
  const Graph graph = all_layers();
  const RandomState state(graph);
  const RandomBatch batch(graph, 3);
  PreparedNetwork engine(graph, {.batch = 3}, state);
  ParameterArena other(engine.network.parameter_layout());
  engine.network.compute_gradient(batch.view(), kPass, engine.gradient);
  engine.network.compute_gradient(batch.view(), kPass, other);
  CHECK(bitwise_equal(engine.gradient.values(), other.values()));
}

TEST_CASE("weights written slice by slice are the weights") {
  const Graph graph = all_layers();
  const RandomState state(graph);
  const RandomBatch batch(graph, 3);
  PreparedNetwork whole(graph, {.batch = 3}, state);
  PreparedNetwork by_slice(graph, {.batch = 3}, RandomState(graph, 2));
  const auto& slices = state.weights.layout().slices();
  for (std::size_t index = slices.size(); index-- > 0;) {
    by_slice.network.set_weights(index, state.weights.slice(slices[index]));
  }
  whole.network.compute_gradient(batch.view(), kPass, whole.gradient);
  by_slice.network.compute_gradient(batch.view(), kPass, by_slice.gradient);
  CHECK(bitwise_equal(whole.gradient.values(), by_slice.gradient.values()));
}

// The trainer's finite check relies on it. The loss alone would not do: oneDNN's batch norm with ReLU and its max
// pooling pass over NaN in forward.
TEST_CASE("NaN in an image shows in the loss or in the gradient, after every layer") {
  struct Case {
    const char* name;
    std::function<ValueId(Graph&, ValueId)> append;
  };
  const Case cases[] = {
      {"relu", [](Graph& graph, ValueId src) { return graph.add(Relu{}, src); }},
      {"batch norm", [](Graph& graph, ValueId src) { return graph.add(BatchNorm{}, src, "bn"); }},
      {"batch norm with relu", [](Graph& graph, ValueId src) { return graph.add(BatchNorm{.relu = true}, src, "bn"); }},
      {"max pooling", [](Graph& graph, ValueId src) { return graph.add(Pooling{}, src); }},
      {"average pooling",
       [](Graph& graph, ValueId src) { return graph.add(Pooling{.kind = Pooling::Kind::average}, src); }},
      {"addition",
       [](Graph& graph, ValueId src) {
         return graph.add(Addition{.relu = true}, {src, graph.add(Relu{}, src)});
       }},
  };
  for (const Case& c : cases) {
    CAPTURE(c.name);
    Graph graph({3, 5, 5});
    graph.add(Linear{.oc = 7}, c.append(graph, graph.add(Convolution{.oc = 17}, graph.input(), "conv")), "fc");
    const RandomState state(graph);
    PreparedNetwork engine(graph, {.batch = 3}, state);
    const auto loss_and_norm = [&](const RandomBatch& batch) {
      const BatchResult result = engine.network.compute_gradient(batch.view(), kPass, engine.gradient);
      return result.loss_sum + squared_norm(engine.gradient.values());
    };
    RandomBatch batch(graph, 3);
    CHECK(std::isfinite(loss_and_norm(batch)));
    batch.images[6] = kNan;
    CHECK_FALSE(std::isfinite(loss_and_norm(batch)));
  }
}

TEST_CASE("mixed images: the engine equals the reference") {
  const Graph graph = all_layers();
  const NetworkOptions options{.batch = 5, .label_smoothing = 0.1F};
  const RandomState state(graph);
  const RandomBatch images(graph, 5);
  const RandomBatch others(graph, 5, 2);
  BatchView batch = images.view();
  batch.other_labels = others.labels.data();
  batch.label_share = 0.35F;
  PreparedNetwork engine(graph, options, state);
  const BatchResult found = engine.network.compute_gradient(batch, kPass, engine.gradient);
  const reference::PassResult expected = reference_network(graph, options, state).compute_gradient(batch, kPass);
  CHECK(found.loss_sum == doctest::Approx(expected.counts.loss_sum).epsilon(1e-5));
  CHECK(found.correct_top1 == expected.counts.correct_top1);
  CHECK(found.correct_top5 == expected.counts.correct_top5);
  check_tensors_close(engine.gradient.layout(), engine.gradient.values(), expected.gradient, 1e-4);
}

TEST_CASE("dead activations lend their memory") {
  const Graph graph = build_model({.name = "resnet20"});
  const int batch = 32;
  const Network network(graph, {.batch = batch});
  // Backward needs the outputs of convolutions; all else is computed again or lives for a few operations.
  std::size_t convolutions = 0;
  for (const LayerInfo& layer : network.layers()) {
    if (layer.kind != "convolution") continue;
    convolutions += static_cast<std::size_t>(batch * layer.dst.element_count()) * sizeof(float);
  }
  CHECK(network.memory_bytes() > convolutions);
  CHECK(network.memory_bytes() < convolutions * 13 / 10);
}

TEST_CASE("the table of layers names every layer, its shape and its parameters") {
  const Graph graph = build_model({.name = "resnet20"});
  const Network network(graph, {.batch = 2});
  const std::vector<LayerInfo> layers = network.layers();
  REQUIRE(layers.size() == graph.nodes().size());
  std::size_t parameters = 0;
  for (const LayerInfo& layer : layers) parameters += layer.parameters;
  CHECK(parameters == network.parameter_layout()->element_count());
  CHECK(layers.front().name == "conv1");
  CHECK(layers.front().kind == "convolution");
  CHECK(layers.front().dst == ImageShape{16, 32, 32});
  CHECK(layers.back().name == "fc");
  CHECK(network.classes() == 10);
  CHECK(network.batch() == 2);
}

TEST_CASE("times are kept by kind of layer and can be reset") {
  const Graph graph = all_layers();
  PreparedNetwork engine(graph, {.batch = 3}, RandomState(graph));
  const RandomBatch batch(graph, 3);
  engine.network.compute_gradient(batch.view(), kPass, engine.gradient);
  const auto seconds = [&](const std::string& kind) {
    const std::vector<KindTime> times = engine.network.times();
    const auto entry = std::ranges::find(times, kind, &KindTime::kind);
    REQUIRE(entry != times.end());
    return entry->seconds;
  };
  const char* kinds[] = {"convolution", "batch norm", "relu", "pooling", "linear", "dropout", "addition", "loss"};
  for (const char* kind : kinds) {
    CAPTURE(kind);
    CHECK(seconds(kind) > 0);
  }
  engine.network.reset_times();
  for (const char* kind : kinds) CHECK(seconds(kind) == 0);
}

TEST_CASE("what cannot work is refused before the first pass") {
  const auto error_of = [](const Graph& graph, int batch, const char* part) {
    return kind_of_error([&] { Network network(graph, {.batch = batch}); }, part);
  };
  CHECK(error_of(all_layers(), 0, "batch") == ErrorKind::input);

  Graph image({3, 4, 4});
  image.add(Convolution{.oc = 7}, image.input(), "conv");
  CHECK(error_of(image, 2, "7x4x4") == ErrorKind::input);

  Graph unread({3, 4, 4});
  unread.add(Convolution{.oc = 7}, unread.input(), "lonely");
  unread.add(Linear{.oc = 7}, unread.input(), "fc");
  CHECK(error_of(unread, 2, "lonely") == ErrorKind::input);

  Graph one_value({3, 1, 1});
  one_value.add(BatchNorm{}, one_value.input(), "bn");
  CHECK(error_of(one_value, 1, "bn") == ErrorKind::input);
  CHECK_NOTHROW(Network(one_value, {.batch = 2}));
}

TEST_CASE("training needs full batches") {
  const Graph graph = all_layers();
  PreparedNetwork engine(graph, {.batch = 3}, RandomState(graph));
  const RandomBatch batch(graph, 3);
  CHECK(kind_of_error([&] { engine.network.compute_gradient(batch.view(2), kPass, engine.gradient); },
                      "full batches") == ErrorKind::failure);
}
