#include "nn/graph/graph.h"

#include <doctest/doctest.h>

#include "core/error.h"
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
