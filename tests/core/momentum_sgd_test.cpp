#include "core/optim/momentum_sgd.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include <doctest/doctest.h>
#include <omp.h>

#include "core/random_stream.h"

using namespace dcs3gd;
using namespace dcs3gd::optim;
using doctest::Approx;

namespace {

std::shared_ptr<const ParameterLayout> layout_of(std::int64_t weights) {
  return std::make_shared<const ParameterLayout>(std::vector<ParameterSlice>{
      {.name = "conv.weight", .shape = {weights}, .kind = ParameterKind::weight},
      {.name = "conv.bias", .shape = {17}, .kind = ParameterKind::bias},
      {.name = "bn.weight", .shape = {5}, .kind = ParameterKind::norm},
  });
}

void fill_normal(ParameterArena& arena, std::uint64_t id) {
  RandomStream random(1, RandomPurpose::test, id);
  for (float& value : arena.values()) value = random.normal();
}

/// One parameter of kind weight under torch.optim.SGD's rule: what the updates of two steps must be.
struct TwoSteps {
  double first;
  double second;
};

TwoSteps two_steps(const MomentumSgdOptions& options) {
  const auto layout = std::make_shared<const ParameterLayout>(
      std::vector<ParameterSlice>{{.name = "w", .shape = {1}, .kind = ParameterKind::weight}});
  MomentumSgd sgd(layout, options);
  ParameterArena gradient(layout);
  ParameterArena weights(layout);
  ParameterArena update(layout);
  TwoSteps result{};

  weights.values()[0] = 1;
  gradient.values()[0] = 0.5F;
  sgd.compute_update(gradient, weights, 0.1, update);
  result.first = update.values()[0];

  weights.values()[0] += update.values()[0];
  gradient.values()[0] = 0.25F;
  sgd.compute_update(gradient, weights, 0.1, update);
  result.second = update.values()[0];
  return result;
}

}  // namespace

TEST_CASE("two steps by hand, in PyTorch's form") {
  MomentumSgdOptions options{.momentum = 0.9F, .nesterov = false, .weight_decay = 0.01F};
  // v = 0.5 + 0.01·1 = 0.51; w = 0.949; v = 0.9·0.51 + 0.25 + 0.01·0.949 = 0.71849
  TwoSteps steps = two_steps(options);
  CHECK(steps.first == Approx(-0.051).epsilon(1e-6));
  CHECK(steps.second == Approx(-0.071849).epsilon(1e-6));

  // The same v at step 1, u = −0.1·(0.51 + 0.9·0.51); w = 0.9031; g = 0.259031; v = 0.718031; −0.1·(g + 0.9·v)
  options.nesterov = true;
  steps = two_steps(options);
  CHECK(steps.first == Approx(-0.0969).epsilon(1e-6));
  CHECK(steps.second == Approx(-0.09052589).epsilon(1e-6));
}

TEST_CASE("many steps follow the formula in double precision, whatever the learning rate does") {
  const auto layout = layout_of(40000);  // three blocks
  for (const bool nesterov : {false, true}) {
    const MomentumSgdOptions options{.momentum = 0.9F, .nesterov = nesterov, .weight_decay = 0.05F};
    MomentumSgd sgd(layout, options);
    ParameterArena gradient(layout);
    ParameterArena weights(layout);
    ParameterArena update(layout);
    const std::size_t count = layout->element_count();
    std::vector<double> velocity(count);
    fill_normal(weights, 100);
    double worst = 0;
    for (int step = 0; step < 5; ++step) {
      const double learning_rate = 0.1 * (step + 1);
      fill_normal(gradient, static_cast<std::uint64_t>(step));
      sgd.compute_update(gradient, weights, learning_rate, update);
      for (std::size_t i = 0; i < count; ++i) {
        const double decay = i < 40000 ? 0.05 : 0.0;  // weights only
        const double decayed = gradient.values()[i] + decay * weights.values()[i];
        velocity[i] = 0.9 * velocity[i] + decayed;
        const double expected = -learning_rate * (nesterov ? decayed + 0.9 * velocity[i] : velocity[i]);
        worst = std::max(worst, std::abs(expected - static_cast<double>(update.values()[i])));
        worst = std::max(worst, std::abs(velocity[i] - static_cast<double>(sgd.velocity().values()[i])));
      }
    }
    CHECK(worst < 1e-5);  // values reach 10: a few units in the last place
  }
}

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

TEST_CASE("without momentum and decay an update is the scaled gradient") {
  const auto layout = layout_of(3);
  MomentumSgd sgd(layout, {.momentum = 0, .weight_decay = 0});
  ParameterArena gradient(layout);
  const ParameterArena weights(layout);
  ParameterArena update(layout);
  for (int step = 0; step < 3; ++step) {
    fill_normal(gradient, static_cast<std::uint64_t>(step));
    sgd.compute_update(gradient, weights, 0.5, update);
    for (std::size_t i = 0; i < gradient.values().size(); ++i) {
      CHECK(update.values()[i] == -0.5F * gradient.values()[i]);
    }
  }
}

TEST_CASE("updates do not depend on the number of threads, bit for bit") {
  const auto layout = layout_of(100001);
  ParameterArena gradient(layout);
  ParameterArena weights(layout);
  fill_normal(gradient, 1);
  fill_normal(weights, 2);
  std::vector<std::vector<float>> results;
  const int threads_before = omp_get_max_threads();
  for (const int threads : {1, 2, 3}) {
    omp_set_num_threads(threads);
    MomentumSgd sgd(layout, {});
    ParameterArena update(layout);
    sgd.compute_update(gradient, weights, 0.1, update);
    sgd.compute_update(gradient, weights, 0.1, update);
    results.emplace_back(update.values().begin(), update.values().end());
  }
  omp_set_num_threads(threads_before);
  CHECK(results[0] == results[1]);
  CHECK(results[0] == results[2]);
}
