#include "core/optim/delay_compensation.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <doctest/doctest.h>

#include "core/parallel_blocks.h"
#include "tests/core/delay_compensation_support.h"

using namespace dcs3gd;
using namespace dcs3gd::optim;
using namespace dcs3gd::test;
using doctest::Approx;

namespace {

/// The state of the K workers of a rank and of the mean model, in one slice.
struct State {
  State(std::size_t count, std::size_t workers, float gradient_size = 1, float update_size = 0.1F)
      : mean_weights(normal_numbers(count, 1)),
        ring(normal_numbers(count, 2, update_size)),
        local_weights(count),
        lambdas(workers) {
    for (std::size_t k = 0; k < workers; ++k) {
      gradients.push_back(normal_numbers(count, 10 + k, gradient_size));
      velocities.push_back(normal_numbers(count, 20 + k, gradient_size));
      updates.push_back(normal_numbers(count, 30 + k, update_size));
      CompensationOptions options;
      options.workers = static_cast<int>(workers) + 1;
      lambdas[k] = static_cast<float>(compensation_lambda(compensation_norms(gradients[k], ring, updates[k]), options));
    }
  }

  void step(const MomentumRule& rule) {
    std::vector<CompensatedWorker> workers;
    for (std::size_t k = 0; k < gradients.size(); ++k) {
      workers.push_back({gradients[k].data(), velocities[k].data(), updates[k].data(), lambdas[k]});
    }
    compensated_step(rule, workers, mean_weights.data(), ring.data(), local_weights.data(), mean_weights.size());
  }

  std::vector<float> mean_weights;
  std::vector<float> ring;
  std::vector<float> local_weights;
  std::vector<std::vector<float>> gradients;
  std::vector<std::vector<float>> velocities;
  std::vector<std::vector<float>> updates;
  std::vector<float> lambdas;
};

/// The same step in double, line by line as the algorithm is written down.
struct NaiveStep {
  NaiveStep(const State& state, const MomentumRule& rule) {
    const std::size_t count = state.ring.size();
    for (std::size_t i = 0; i < count; ++i) {
      const double mean_update = state.ring[i];
      const double m = state.mean_weights[i] + mean_update;
      mean_weights.push_back(m);
      double sum = 0;
      for (std::size_t k = 0; k < state.gradients.size(); ++k) {
        const double g = state.gradients[k][i];
        const double compensated = g + state.lambdas[k] * g * g * (mean_update - state.updates[k][i]);
        const double decayed = compensated + static_cast<double>(rule.weight_decay) * m;
        const double v = static_cast<double>(rule.momentum) * state.velocities[k][i] + decayed;
        const double u = -static_cast<double>(rule.learning_rate) * (rule.nesterov ? decayed + rule.momentum * v : v);
        velocities.resize(state.gradients.size());
        updates.resize(state.gradients.size());
        velocities[k].push_back(v);
        updates[k].push_back(u);
        sum += u;
      }
      ring.push_back(sum);
      local_weights.push_back(m + updates[0][i]);
    }
  }

  std::vector<double> mean_weights;
  std::vector<double> ring;
  std::vector<double> local_weights;
  std::vector<std::vector<double>> velocities;
  std::vector<std::vector<double>> updates;
};

double largest_error(const std::vector<float>& actual, const std::vector<double>& expected) {
  double scale = 0;
  double error = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    scale = std::max(scale, std::abs(expected[i]));
    error = std::max(error, std::abs(actual[i] - expected[i]));
  }
  return error / scale;
}

/// What the fused step makes of gradients alone: with η = −1 and no momentum or decay the update is g̃.
constexpr MomentumRule kShowsCompensatedGradient = {
    .momentum = 0, .weight_decay = 0, .learning_rate = -1, .nesterov = false};

/// ‖g̃ − g‖ / ‖g‖ of one worker after such a step.
double relative_correction(std::size_t count, float gradient_size, float update_size) {
  State state(count, 1, gradient_size, update_size);
  std::fill(state.velocities[0].begin(), state.velocities[0].end(), 0.0F);
  state.step(kShowsCompensatedGradient);
  std::vector<double> gradient;
  std::vector<double> correction;
  for (std::size_t i = 0; i < count; ++i) {
    gradient.push_back(state.gradients[0][i]);
    correction.push_back(static_cast<double>(state.updates[0][i]) - state.gradients[0][i]);
  }
  return norm(correction) / norm(gradient);
}

}  // namespace

TEST_CASE("the correction keeps its size where g times g times D is below fp32") {
  // Down to distances whose lambda is just a float.
  CHECK(relative_correction(1000, 1, 1e-2F) == Approx(0.2).epsilon(1e-4));
  CHECK(relative_correction(1000, 1e-8F, 1e-10F) == Approx(0.2).epsilon(1e-4));
  CHECK(relative_correction(1000, 1e-15F, 1e-10F) == Approx(0.2).epsilon(1e-4));
  CHECK(relative_correction(1000, 1e-22F, 1e-13F) == Approx(0.2).epsilon(1e-4));
  CHECK(relative_correction(1000, 1e-15F, 1e-21F) == Approx(0.2).epsilon(1e-4));
}

TEST_CASE("the fused step equals the algorithm line by line in double") {
  constexpr double kTolerance = 4e-7;  // a few roundings of the largest element
  for (const std::size_t workers : {1, 2, 3}) {
    for (const bool nesterov : {false, true}) {
      for (const float weight_decay : {0.0F, 0.05F}) {
        for (const std::size_t size : {std::size_t{9}, kBlockElements + 5}) {
          CAPTURE(workers);
          CAPTURE(nesterov);
          CAPTURE(weight_decay);
          CAPTURE(size);
          const MomentumRule rule{
              .momentum = 0.9F, .weight_decay = weight_decay, .learning_rate = 0.1F, .nesterov = nesterov};
          State state(size, workers);
          const NaiveStep expected(state, rule);
          state.step(rule);
          CHECK(largest_error(state.mean_weights, expected.mean_weights) < kTolerance);
          CHECK(largest_error(state.ring, expected.ring) < kTolerance);
          CHECK(largest_error(state.local_weights, expected.local_weights) < kTolerance);
          for (std::size_t k = 0; k < workers; ++k) {
            CHECK(largest_error(state.velocities[k], expected.velocities[k]) < kTolerance);
            CHECK(largest_error(state.updates[k], expected.updates[k]) < kTolerance);
          }
        }
      }
    }
  }
}

TEST_CASE("the fused step gives the same bits on every number of threads") {
  const MomentumRule rule{.momentum = 0.9F, .weight_decay = 0.05F, .learning_rate = 0.1F, .nesterov = false};
  constexpr std::size_t kSize = 3 * kBlockElements + 13;
  State first(kSize, 2);
  first.step(rule);
  for_threads_1_to_3([&] {
    State state(kSize, 2);
    state.step(rule);
    CHECK(state.mean_weights == first.mean_weights);
    CHECK(state.ring == first.ring);
    CHECK(state.local_weights == first.local_weights);
    CHECK(state.velocities == first.velocities);
    CHECK(state.updates == first.updates);
  });
}

TEST_CASE("add_update writes the sum, the same bits as the fused step's local weights") {
  State state(kBlockElements + 5, 1);
  state.step({.momentum = 0.9F, .weight_decay = 0, .learning_rate = 0.1F, .nesterov = false});
  std::vector<float> sum(state.mean_weights.size());
  add_update(state.mean_weights, state.updates[0], sum);
  CHECK(sum == state.local_weights);
}

// Two workers with the losses (w − 1)²/2 and (w + 3)²/2, so g₀ = w − 1 and g₁ = w + 3; m = 0, η = 1/4, μ = 1/2,
// λ0 = 1/5, no decay. With one parameter, eq. 17 makes the correction λ0·|g|·sign D. By hand:
//
//   step  w₀, w₁             g₀, g₁                ū        D₀, D₁           g̃₀, g̃₁                m        v₀, v₁ u₀,
//   u₁ 1     0, 0               −1, 3                 0        0, 0             −1, 3                  0        −1, 3
//   1/4, −3/4 2     1/4, −3/4          −3/4, 9/4             −1/4     −1/2, 1/2        −0.9, 2.7              −0.25
//   −1.4, 4.2          0.35, −1.05 3     0.1, −1.3          −0.9, 1.7             −0.35    −0.7, 0.7        −1.08, 2.04
//   −0.6     −1.78, 4.14        0.445, −1.035 4     −0.155, −1.635     −1.155, 1.365         −0.295   −0.74, 0.74
//   −1.386, 1.638          −0.895   −2.276, 3.708      0.569, −0.927
TEST_CASE("two workers on quadratic losses follow the trajectory computed by hand") {
  struct Line {
    double m, v0, v1, u0, u1;
  };
  const Line lines[] = {{0, -1, 3, 0.25, -0.75},
                        {-0.25, -1.4, 4.2, 0.35, -1.05},
                        {-0.6, -1.78, 4.14, 0.445, -1.035},
                        {-0.895, -2.276, 3.708, 0.569, -0.927}};
  const MomentumRule rule{.momentum = 0.5F, .weight_decay = 0, .learning_rate = 0.25F, .nesterov = false};
  const CompensationOptions options{.lambda0 = 0.2, .workers = 2};
  constexpr double kTolerance = 1e-6;
  constexpr double kMinimum[2] = {1, -3};

  float m = 0;
  float mean_update = 0;
  float v[2] = {};
  float u[2] = {};
  for (const Line& line : lines) {
    float g[2];
    std::vector<CompensatedWorker> workers;
    for (const int i : {0, 1}) {
      g[i] = m + u[i] - static_cast<float>(kMinimum[i]);
      const double lambda = compensation_lambda(compensation_norms({&g[i], 1}, {&mean_update, 1}, {&u[i], 1}), options);
      workers.push_back({&g[i], &v[i], &u[i], static_cast<float>(lambda)});
    }
    float local = 0;
    compensated_step(rule, workers, &m, &mean_update, &local, 1);
    CHECK(m == Approx(line.m).epsilon(kTolerance));
    CHECK(v[0] == Approx(line.v0).epsilon(kTolerance));
    CHECK(v[1] == Approx(line.v1).epsilon(kTolerance));
    CHECK(u[0] == Approx(line.u0).epsilon(kTolerance));
    CHECK(u[1] == Approx(line.u1).epsilon(kTolerance));
    CHECK(mean_update == Approx(line.u0 + line.u1).epsilon(kTolerance));
    CHECK(local == Approx(line.m + line.u0).epsilon(kTolerance));
    mean_update /= 2;  // what the all-reduce does
  }
}
