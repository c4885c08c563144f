#include <doctest/doctest.h>

#include "tests/nn/network_test_support.h"
#include "tests/support/named_networks.h"

using namespace dcs3gd;
using namespace dcs3gd::nn;
using namespace dcs3gd::nn::test;
using dcs3gd::test::build_model;
using dcs3gd::test::ModelOptions;

// Rounding grows with depth and where a batch norm has few values per channel (4 in the last stages here). A ReLU whose
// input is 0 but for rounding may be open in one network and closed in the other, which moves the gradient of its
// channel by a share of these few values, while loss and logits hardly notice. A wrong connection, stride or shortcut
// shows as a difference of order 1 in both.
TEST_CASE("whole models equal the reference") {
  struct Case {
    ModelOptions model;
    int batch;
    Tolerance tolerance;
  };
  const Case cases[] = {
      {{.name = "lenet5", .channels = 1, .image_size = 28}, 3, {.forward = 1e-5, .gradient = 2e-5}},
      {{.name = "resnet20", .image_size = 16}, 4, {.forward = 1e-5, .gradient = 1e-4}},
      {{.name = "resnet18", .image_size = 32}, 4, {.forward = 1e-4, .gradient = 1e-2}},
      {{.name = "resnet50", .image_size = 32, .zero_init_residual = true}, 4, {.forward = 2e-4, .gradient = 1e-1}},
  };
  for (const Case& c : cases) {
    CAPTURE(c.model.name);
    check_engine_equals_reference(build_model(c.model), {.batch = c.batch, .label_smoothing = 0.1F}, c.tolerance);
  }
}
