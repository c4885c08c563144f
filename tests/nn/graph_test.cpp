#include "nn/graph/graph.h"

#include <algorithm>
#include <cmath>

#include <doctest/doctest.h>

#include "core/error.h"
#include "nn/graph/layer_kinds.h"
#include "nn/graph/layer_options.h"

using namespace dcs3gd;
using namespace dcs3gd::nn;

namespace {

/// Calls `function`, which must throw Error{input} with `part` in its message.
template <typename Function>
void check_input_error(const std::string& part, Function&& function) {
  CAPTURE(part);
  try {
    function();
    FAIL_CHECK("nothing was thrown");
  } catch (const Error& error) {
    CAPTURE(error.what());
    CHECK(error.kind() == ErrorKind::input);
    CHECK(std::string(error.what()).find(part) != std::string::npos);
  }
}

}  // namespace

TEST_CASE("shapes follow kernel, stride and padding, rounded down") {
  Graph graph({3, 13, 11});
  CHECK(graph.shape(graph.add(Convolution{.oc = 8, .kernel = 3, .stride = 2, .padding = 1}, graph.input(), "a")) ==
        ImageShape{8, 7, 6});
  CHECK(graph.shape(graph.add(Convolution{.oc = 8, .kernel = 11}, graph.input(), "b")) == ImageShape{8, 3, 1});
  CHECK(graph.shape(graph.add(Pooling{.kernel = 2, .stride = 2}, graph.input())) == ImageShape{3, 6, 5});
  CHECK(graph.shape(graph.add(Pooling{.kernel = 3, .stride = 2, .padding = 1}, graph.input())) == ImageShape{3, 7, 6});
  CHECK(graph.shape(graph.add(GlobalAveragePooling{}, graph.input())) == ImageShape{3, 1, 1});
  CHECK(graph.shape(graph.add(Linear{.oc = 5}, graph.input(), "c")) == ImageShape{5, 1, 1});
}

TEST_CASE("parameters stand in the order of the calls under torchvision's names") {
  Graph graph({3, 4, 4});
  const ValueId value = graph.add(Convolution{.oc = 8, .kernel = 3, .bias = true}, graph.input(), "conv1");
  graph.add(Linear{.oc = 10}, graph.add(BatchNorm{}, value, "bn1"), "fc");
  const auto layout = graph.parameter_layout();
  struct Expected {
    const char* name;
    Shape shape;
    ParameterKind kind;
  };
  const Expected expected[] = {{"conv1.weight", {8, 3, 3, 3}, ParameterKind::weight},
                               {"conv1.bias", {8}, ParameterKind::bias},
                               {"bn1.weight", {8}, ParameterKind::norm},
                               {"bn1.bias", {8}, ParameterKind::norm},
                               {"fc.weight", {10, 32}, ParameterKind::weight},
                               {"fc.bias", {10}, ParameterKind::bias}};
  REQUIRE(layout->slices().size() == std::size(expected));
  for (std::size_t i = 0; i < std::size(expected); ++i) {
    CHECK(layout->slices()[i].name == expected[i].name);
    CHECK(layout->slices()[i].shape == expected[i].shape);
    CHECK(layout->slices()[i].kind == expected[i].kind);
  }
  const auto statistics = graph.statistics_layout();
  REQUIRE(statistics->slices().size() == 2);
  CHECK(statistics->slices()[0].name == "bn1.running_mean");
  CHECK(statistics->slices()[1].name == "bn1.running_var");
}

TEST_CASE("impossible layers are refused by name") {
  Graph graph({3, 4, 4});
  check_input_error("layer big", [&] { graph.add(Convolution{.oc = 8, .kernel = 5}, graph.input(), "big"); });
  check_input_error("4 pixels", [&] { graph.add(Pooling{.kernel = 5}, graph.input()); });
  check_input_error("padding", [&] { graph.add(Pooling{.kernel = 2, .padding = 2}, graph.input()); });
  const ValueId other = graph.add(Convolution{.oc = 8}, graph.input(), "conv");
  check_input_error("3x4x4 and 8x4x4", [&] { graph.add(Addition{}, {graph.input(), other}); });
}

TEST_CASE("a layer has as many sources as its kind reads, and a name if it has parameters") {
  Graph graph({3, 4, 4});
  check_input_error("layer sum: expected 2 sources, found 1", [&] { graph.add(Addition{}, graph.input(), "sum"); });
  check_input_error("layer relu0: expected 1 source, found 2", [&] { graph.add(Relu{}, {0, 0}); });
  check_input_error("needs a name", [&] { graph.add(Linear{.oc = 2}, graph.input()); });
  CHECK(graph.nodes().empty());
}

TEST_CASE("options out of range are refused by layer and attribute") {
  Graph graph({3, 4, 4});
  check_input_error("layer c: channels: expected an integer from 1 to 1000000, found 0",
                    [&] { graph.add(Convolution{}, graph.input(), "c"); });
  check_input_error("layer c: stride", [&] { graph.add(Convolution{.oc = 1, .stride = 0}, graph.input(), "c"); });
  check_input_error("layer bn: epsilon", [&] { graph.add(BatchNorm{.epsilon = -1}, graph.input(), "bn"); });
  check_input_error("layer c: no machine holds", [&] {
    graph.add(Convolution{.oc = 1'000'000, .kernel = 1'000'000, .padding = 1'000'000}, graph.input(), "c");
  });
}

TEST_CASE("every kind has a name of its own, and what a file must give is said") {
  std::vector<std::string> names;
  for (const LayerKind& kind : layer_kinds()) {
    names.emplace_back(kind.name);
    if (names.back() == "convolution" || names.back() == "linear") {
      check_input_error("missing", [&] { read_layer(kind.name, "a", {}); });
    } else {
      CHECK(read_layer(kind.name, "a", {}).type() == kind.defaults.type());
    }
  }
  std::ranges::sort(names);
  CHECK(std::ranges::adjacent_find(names) == names.end());
}

TEST_CASE("attributes of a file become options") {
  const auto convolution = std::any_cast<Convolution>(read_layer(
      "convolution", "a",
      {{"channels", 8}, {"kernel", 3}, {"stride", 2}, {"padding", 1}, {"bias", true}, {"init", "kaiming_normal"}}));
  CHECK(convolution.oc == 8);
  CHECK(convolution.kernel == 3);
  CHECK(convolution.stride == 2);
  CHECK(convolution.padding == 1);
  CHECK(convolution.bias);
  CHECK(convolution.init == Initialization::kaiming_normal);
  const auto linear = std::any_cast<Linear>(read_layer("linear", "a", {{"bias", false}, {"features", 5}}));
  CHECK(linear.oc == 5);
  CHECK(!linear.bias);
  const auto norm =
      std::any_cast<BatchNorm>(read_layer("batch_norm", "a", {{"relu", true}, {"epsilon", 1e-3}, {"gamma", 0}}));
  CHECK(norm.relu);
  CHECK(norm.epsilon == 1e-3F);
  CHECK(norm.gamma == 0);
  const auto pooling = std::any_cast<Pooling>(read_layer("pooling", "a", {{"method", "average"}, {"kernel", 3}}));
  CHECK(pooling.kind == Pooling::Kind::average);
  CHECK(pooling.kernel == 3);
  CHECK(pooling.stride == 2);
  CHECK(std::any_cast<AdaptiveAveragePooling>(read_layer("adaptive_average_pooling", "a", {{"size", 2}})).size == 2);
  CHECK(std::any_cast<Dropout>(read_layer("dropout", "a", {{"probability", 0.25}})).probability == 0.25F);
  CHECK(std::any_cast<Addition>(read_layer("addition", "a", {{"relu", true}})).relu);
}

TEST_CASE("attributes are read strictly") {
  struct Wrong {
    const char* kind;
    Attributes attributes;
    const char* message;
  };
  const Wrong cases[] = {
      {"convolutoin", {}, "layer a: there is no kind of layer 'convolutoin'; expected one of convolution, batch_norm"},
      {"relu", {{"relu", true}}, "layer a: there is no attribute 'relu'; expected none"},
      {"linear", {{"features", 1}, {"channels", 1}}, "no attribute 'channels'; expected features, bias, init"},
      {"linear", {{"bias", false}}, "layer a: features: expected an integer from 1 to 1000000, but it is missing"},
      {"linear", {{"features", 1}, {"features", 2}}, "layer a: features: expected it once"},
      {"linear", {{"features", 1.0}}, "layer a: features: expected an integer from 1 to 1000000, found 1.0"},
      {"linear", {{"features", true}}, "found true"},
      {"linear", {{"features", "many"}}, "found 'many'"},
      {"linear", {{"features", std::int64_t{1} << 32}}, "found 4294967296"},
      {"linear", {{"features", 1}, {"bias", 1}}, "layer a: bias: expected true or false, found 1"},
      {"linear",
       {{"features", 1}, {"init", "xavier"}},
       "layer a: init: expected one of torch, kaiming_normal, normal, found 'xavier'"},
      {"pooling", {{"method", 1}}, "layer a: method: expected one of max, average, found 1"},
      {"dropout", {{"probability", 1}}, "expected a finite number of at least 0 and below 1, found 1"},
      {"dropout", {{"probability", 0.999999999999}}, "below 1"},  // 1 as a float
      {"dropout", {{"probability", "half"}}, "found 'half'"},
      {"batch_norm", {{"gamma", 1e300}}, "layer a: gamma: expected a finite number, found 1"},
      {"batch_norm", {{"gamma", std::nan("")}}, "found nan"},
  };
  for (const Wrong& wrong : cases) {
    check_input_error(wrong.message, [&] { read_layer(wrong.kind, "a", wrong.attributes); });
  }
}
