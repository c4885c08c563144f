#include <doctest/doctest.h>

#include "tests/nn/network_cases.h"
#include "tests/nn/network_test_support.h"

using namespace dcs3gd;
using namespace dcs3gd::nn;
using namespace dcs3gd::nn::test;

namespace {

// Sums of at most a few hundred products in fp32, through up to a dozen layers: rounding is of the order of 1e-6 of the
// largest element. A wrong format, window or mask shows as a difference of order 1.
constexpr Tolerance kTolerance{.forward = 2e-5, .gradient = 2e-5};

}  // namespace

TEST_CASE("the engine equals the reference on every small network, on 1 and 2 threads") {
  for (const NetworkCase& network_case : network_cases()) {
    CAPTURE(network_case.name);
    const Graph graph = network_case.graph();
    for_threads_1_and_2([&](int threads) {
      CAPTURE(threads);
      check_engine_equals_reference(graph, {.batch = network_case.batch, .label_smoothing = 0.1F}, kTolerance);
    });
  }
}
