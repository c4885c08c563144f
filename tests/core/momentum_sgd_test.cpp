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

TEST_CASE("a slice's own decay takes the place of the optimizer's, on the same kinds of parameters") {
  MomentumSgdOptions options{.weight_decay = 0.05F};
  ParameterSlice slice{.name = "p", .shape = {1}, .kind = ParameterKind::weight, .weight_decay = 0.5F};
  CHECK(weight_decay_of(slice, options) == 0.5F);
  slice.kind = ParameterKind::bias;
  CHECK(weight_decay_of(slice, options) == 0);
  options.decay_norm_and_bias = true;
  CHECK(weight_decay_of(slice, options) == 0.5F);
  slice.weight_decay = 0;
  CHECK(weight_decay_of(slice, options) == 0);
}
