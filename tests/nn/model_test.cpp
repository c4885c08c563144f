#include <doctest/doctest.h>

#include "nn/model_zoo.h"
#include "tests/nn/network_test_support.h"

using namespace dcs3gd;
using namespace dcs3gd::nn;
using namespace dcs3gd::nn::test;

TEST_CASE("whole models equal the reference") {
  struct Case {
    ModelOptions model;
    int batch;
    double tolerance;
  };
  const Case cases[] = {
      {{.name = "lenet5", .channels = 1, .image_size = 28}, 3, 2e-5},
      {{.name = "resnet20", .image_size = 16}, 4, 1e-4},
      {{.name = "resnet18", .image_size = 32}, 4, 1e-4},
      {{.name = "resnet50", .image_size = 32}, 4, 1e-4},
  };
  for (const Case& c : cases) {
    CAPTURE(c.model.name);
    check_engine_equals_reference(build_model(c.model), {.batch = c.batch, .label_smoothing = 0.1F}, c.tolerance);
  }
}
