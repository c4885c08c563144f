#include "core/optim/momentum_sgd.h"

#include <doctest/doctest.h>

using namespace dcs3gd;
using namespace dcs3gd::optim;

TEST_CASE("decay falls on weights only, on all learned parameters if asked, never on running statistics") {
  MomentumSgdOptions options{.weight_decay = 0.05F};
  const auto decay_of = [&](ParameterKind kind) {
    return weight_decay_of({.name = "p", .shape = {1}, .kind = kind}, options);
  };
  CHECK(decay_of(ParameterKind::weight) == 0.05F);
  CHECK(decay_of(ParameterKind::bias) == 0);
  CHECK(decay_of(ParameterKind::norm) == 0);
  CHECK(decay_of(ParameterKind::statistics) == 0);
  options.decay_norm_and_bias = true;
  CHECK(decay_of(ParameterKind::weight) == 0.05F);
  CHECK(decay_of(ParameterKind::bias) == 0.05F);
  CHECK(decay_of(ParameterKind::norm) == 0.05F);
  CHECK(decay_of(ParameterKind::statistics) == 0);
}
