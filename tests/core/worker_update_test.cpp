#include "core/optim/worker_update.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include "core/optim/delay_compensation.h"
#include "core/parallel_blocks.h"
#include "core/random_stream.h"
#include "tests/core/optim_support.h"

using namespace dcs3gd;
using namespace dcs3gd::optim;
using namespace dcs3gd::optim::test;
using doctest::Approx;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
/// A few roundings of the largest element.
constexpr double kTolerance = 1e-6;

ParameterSlice weights_slice() { return {.name = "w", .shape = {1}, .kind = ParameterKind::weight}; }

/// The K workers of a rank and the mean model, in one slice.
struct State {
  State(std::size_t count, std::size_t workers, float gradient_size = 1, float update_size = 0.1F)
      : mean_weights(normal_numbers(count, 1)),
        mean_update(normal_numbers(count, 2, update_size)),
        local_weights(count),
        corrections(workers, {.lambda = 0.7F, .common = 0.05F, .bound = 0.3F}) {
    for (std::size_t k = 0; k < workers; ++k) {
      gradients.push_back(normal_numbers(count, 10 + k, gradient_size));
      updates.push_back(normal_numbers(count, 30 + k, update_size));
    }
  }

  void form(const UpdateFormula& formula, bool has_arrived = false, float* news = nullptr) {
    std::vector<WorkerArrays> workers;
    for (std::size_t k = 0; k < gradients.size(); ++k) {
      workers.push_back({gradients[k].data(), updates[k].data(), corrections[k]});
    }
    form_updates(formula, workers, has_arrived, mean_weights.data(), mean_update.data(),
                 news != nullptr ? news : mean_update.data(), local_weights.data(), mean_weights.size(),
                 news != nullptr);
  }

  std::vector<float> mean_weights;
  std::vector<float> mean_update;
  std::vector<float> local_weights;
  std::vector<Correction> corrections;
  std::vector<std::vector<float>> gradients;
  std::vector<std::vector<float>> updates;
};

/// The same in double, line by line as the header has it.
struct NaiveForm {
  NaiveForm(const State& state, const UpdateFormula& f, bool has_arrived) : updates(state.gradients.size()) {
    for (std::size_t i = 0; i < state.mean_update.size(); ++i) {
      const double mean = state.mean_update[i];
      const double m = state.mean_weights[i] + (has_arrived ? 0 : f.reach * mean);
      double sum = 0;
      for (std::size_t k = 0; k < state.gradients.size(); ++k) {
        const Correction& correction = state.corrections[k];
        const double g = state.gradients[k][i];
        const double distance = mean - state.updates[k][i];
        const double bound = correction.bound;
        const double share = std::clamp(correction.lambda * g * distance, -bound, bound) + correction.common;
        updates[k].push_back(f.momentum * mean - f.own_momentum * distance -
                             f.learning_rate * (g + share * g + f.weight_decay * m));
        sum += updates[k].back();
      }
      mean_weights.push_back(m - f.known_part * mean);
      mean_update.push_back(sum);
      local_weights.push_back(mean_weights.back() + f.reach * updates[0][i]);
    }
  }

  std::vector<double> mean_weights;
  std::vector<double> mean_update;
  std::vector<double> local_weights;
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

/// ‖g̃ − g‖ / ‖g‖ of one worker under eq. 17: with η = −1 and no momentum or decay the update is g̃.
double relative_correction(std::size_t count, float gradient_size, float update_size) {
  State state(count, 1, gradient_size, update_size);
  const double lambda =
      compensation_lambda(compensation_norms(state.gradients[0], state.mean_update, state.updates[0]), {.workers = 2});
  state.corrections[0] = {.lambda = static_cast<float>(lambda), .common = 0, .bound = kInfinity};
  state.form({.learning_rate = -1});
  std::vector<double> gradient;
  std::vector<double> correction;
  for (std::size_t i = 0; i < count; ++i) {
    gradient.push_back(state.gradients[0][i]);
    correction.push_back(static_cast<double>(state.updates[0][i]) - state.gradients[0][i]);
  }
  return norm(correction) / norm(gradient);
}

/// Momentum SGD as PyTorch has it, on one number, in double.
class PlainSgd {
 public:
  explicit PlainSgd(const MomentumSgdOptions& options) : options_(options) {}
  double step(double gradient, double weight, double learning_rate) {
    const double decayed = gradient + static_cast<double>(options_.weight_decay) * weight;
    const double momentum = options_.momentum;
    velocity_ = momentum * velocity_ + decayed;
    return weight - learning_rate * (options_.nesterov ? decayed + momentum * velocity_ : velocity_);
  }

 private:
  const MomentumSgdOptions options_;
  double velocity_ = 0;
};

double rate_of(int step) { return step < 4 ? 0.02 * (step + 1) : 0.1 / step; }

}  // namespace

TEST_CASE("form_updates equals the formulas line by line in double") {
  const MomentumSgdOptions plain{.momentum = 0.9F, .weight_decay = 0.05F};
  const MomentumSgdOptions nesterov{.momentum = 0.9F, .nesterov = true, .weight_decay = 0};
  for (const MomentumSgdOptions& options : {plain, nesterov}) {
    for (const std::size_t workers : {1, 2, 3}) {
      for (const bool has_arrived : {false, true}) {
        for (const std::size_t size : {std::size_t{9}, kBlockElements + 5}) {
          CAPTURE(workers);
          CAPTURE(options.nesterov);
          CAPTURE(has_arrived);
          CAPTURE(size);
          const UpdateFormula formula = update_formula(weights_slice(), options, 0.5F, 0.1, 0.125);
          CHECK(formula.momentum == Approx(0.72));
          CHECK(formula.own_momentum == Approx(0.4));
          State state(size, workers);
          const NaiveForm expected(state, formula, has_arrived);
          state.form(formula, has_arrived);
          CHECK(largest_error(state.mean_weights, expected.mean_weights) < kTolerance);
          CHECK(largest_error(state.mean_update, expected.mean_update) < kTolerance);
          CHECK(largest_error(state.local_weights, expected.local_weights) < kTolerance);
          for (std::size_t k = 0; k < workers; ++k) {
            CHECK(largest_error(state.updates[k], expected.updates[k]) < kTolerance);
          }
        }
      }
    }
  }
}

TEST_CASE("both forms follow PyTorch's momentum SGD on one worker, whatever the learning rate does and beta is") {
  for (const bool nesterov : {false, true}) {
    for (const float own_momentum : {0.0F, 0.4F, 0.9F}) {
      CAPTURE(nesterov);
      CAPTURE(own_momentum);
      const MomentumSgdOptions options{.momentum = 0.9F, .nesterov = nesterov, .weight_decay = 0.05F};
      PlainSgd plain(options);
      double expected = 1;
      const float reach = reach_of(options);
      std::vector<float> mean_weights{1}, mean_update{0}, update{0}, local{1};  // as updates that travel
      std::vector<float> fresh_weights{1}, fresh_update{0};                     // as gradients that travel
      double previous_rate = 0;
      for (int step = 0; step < 12; ++step) {
        CAPTURE(step);
        const double rate = rate_of(step);
        const UpdateFormula formula = update_formula(weights_slice(), options, own_momentum, rate, previous_rate);
        previous_rate = rate;
        const auto gradient = static_cast<float>(expected - 0.3 * step);
        expected = plain.step(gradient, expected, rate);

        const WorkerArrays worker{&gradient, update.data(), {.bound = kInfinity}};
        form_updates(formula, {&worker, 1}, false, mean_weights.data(), mean_update.data(), mean_update.data(),
                     local.data(), 1);
        CHECK(local[0] == Approx(expected).epsilon(kTolerance));
        CHECK(mean_weights[0] + reach * mean_update[0] == Approx(expected).epsilon(kTolerance));

        apply_mean_gradient(formula, 1, {&gradient, 1}, fresh_weights, fresh_update);
        CHECK(fresh_weights[0] == Approx(expected).epsilon(kTolerance));
        CHECK(fresh_update[0] == Approx(update[0]).epsilon(kTolerance));
      }
    }
  }
}

TEST_CASE("beta = mu is a momentum of each worker's own") {
  const MomentumSgdOptions options{.momentum = 0.9F, .weight_decay = 0};
  State state(1000, 3);
  const std::vector<std::vector<float>> before = state.updates;
  for (Correction& correction : state.corrections) correction = {.bound = kInfinity};
  state.form(update_formula(weights_slice(), options, options.momentum, 0.1, 0.2));
  for (std::size_t k = 0; k < 3; ++k) {
    std::vector<double> expected;
    for (std::size_t i = 0; i < before[k].size(); ++i)
      expected.push_back(0.45 * before[k][i] - 0.1 * state.gradients[k][i]);
    CHECK(largest_error(state.updates[k], expected) < kTolerance);
  }
}

TEST_CASE("the mean gradient is scaled on its way into the model") {
  const MomentumSgdOptions options{.momentum = 0.9F, .weight_decay = 0};
  const UpdateFormula formula = update_formula(weights_slice(), options, 0, 0.5, 0.5);
  std::vector<float> weights{1}, update{0.25F};
  const std::vector<float> gradient{2};
  apply_mean_gradient(formula, 0.25F, gradient, weights, update);
  CHECK(update[0] == Approx(0.9 * 0.25 - 0.5 * 0.5));
  CHECK(weights[0] == Approx(1 + update[0]));
}

TEST_CASE("no velocity is left of a learning rate of 0, nor before the first step") {
  CHECK(update_formula(weights_slice(), {}, 0.9F, 0.1, 0).momentum == 0);
  ParameterSlice fast = weights_slice();  // a factor multiplies the rate, not the ratio of two
  fast.rate_factor = 4;
  CHECK(update_formula(fast, {}, 0.9F, 0.1, 0.2).learning_rate == 0.4F);
  CHECK(update_formula(fast, {}, 0.9F, 0.1, 0.2).momentum ==
        update_formula(weights_slice(), {}, 0.9F, 0.1, 0.2).momentum);
  CHECK(update_formula(weights_slice(), {}, 0.9F, 0, 0.1).momentum == 0);
}

TEST_CASE("a bounded correction changes no element by more than its share") {
  State state(1000, 1, 1, 1);
  state.corrections[0] = {.lambda = 5, .common = 0, .bound = 0.3F};
  state.form({.learning_rate = -1});
  double largest = 0;
  for (std::size_t i = 0; i < state.gradients[0].size(); ++i) {
    const double change = std::abs(static_cast<double>(state.updates[0][i]) / state.gradients[0][i] - 1);
    CHECK(change < 0.3 + 1e-5);
    largest = std::max(largest, change);
  }
  CHECK(largest == Approx(0.3).epsilon(1e-5));
}

TEST_CASE("the correction keeps its size where g times g times D is below fp32") {
  // Down to distances whose lambda is just a float.
  CHECK(relative_correction(1000, 1, 1e-2F) == Approx(0.2).epsilon(1e-4));
  CHECK(relative_correction(1000, 1e-8F, 1e-10F) == Approx(0.2).epsilon(1e-4));
  CHECK(relative_correction(1000, 1e-15F, 1e-10F) == Approx(0.2).epsilon(1e-4));
  CHECK(relative_correction(1000, 1e-22F, 1e-13F) == Approx(0.2).epsilon(1e-4));
  CHECK(relative_correction(1000, 1e-15F, 1e-21F) == Approx(0.2).epsilon(1e-4));
}

TEST_CASE("updates have the same bits on every number of threads") {
  const UpdateFormula formula = update_formula(weights_slice(), {.nesterov = true}, 0.5F, 0.1, 0.2);
  constexpr std::size_t kSize = 3 * kBlockElements + 13;
  const auto result = [&] {
    State state(kSize, 2);
    state.form(formula);
    std::vector<float> fresh = normal_numbers(kSize, 50);
    apply_mean_gradient(formula, 0.5F, state.gradients[0], fresh, state.mean_update);
    return std::vector{state.mean_weights, state.mean_update, state.local_weights,
                       state.updates[0],   state.updates[1],  fresh};
  };
  const auto first = result();
  for_threads_1_to_3([&] { CHECK(result() == first); });
}

TEST_CASE("add_update writes the sum, the same bits as the local weights of form_updates") {
  const UpdateFormula formula = update_formula(weights_slice(), {.nesterov = true}, 0.5F, 0.1, 0.2);
  State state(kBlockElements + 5, 1);
  state.form(formula);
  std::vector<float> sum(state.mean_weights.size());
  add_update(state.mean_weights, formula.reach, state.updates[0], sum);
  CHECK(sum == state.local_weights);
}

// Two workers with the losses (w − 1)²/2 and (w + 3)²/2, so g₀ = w − 1 and g₁ = w + 3; m = 0, η = 1/4, μ = β = 1/2,
// λ0 = 1/5, no decay. With one parameter, eq. 17 makes the correction λ0·|g|·sign D. By hand, v = −u/η:
//
//   step  w₀, w₁             g₀, g₁                ū        D₀, D₁           g̃₀, g̃₁                m        v₀, v₁
//   1     0, 0               −1, 3                 0        0, 0             −1, 3                  0        −1, 3
//   2     1/4, −3/4          −3/4, 9/4             −1/4     −1/2, 1/2        −0.9, 2.7              −0.25    −1.4, 4.2
//   3     0.1, −1.3          −0.9, 1.7             −0.35    −0.7, 0.7        −1.08, 2.04            −0.6 −1.78, 4.14 4
//   −0.155, −1.635     −1.155, 1.365         −0.295   −0.74, 0.74      −1.386, 1.638          −0.895   −2.276, 3.708
TEST_CASE("two workers on quadratic losses follow the trajectory computed by hand") {
  struct Line {
    double m, u0, u1;
  };
  const Line lines[] = {{0, 0.25, -0.75}, {-0.25, 0.35, -1.05}, {-0.6, 0.445, -1.035}, {-0.895, 0.569, -0.927}};
  const MomentumSgdOptions sgd{.momentum = 0.5F, .weight_decay = 0};
  const CompensationOptions options{.lambda0 = 0.2, .workers = 2};
  constexpr double kMinimum[2] = {1, -3};

  float m = 0;
  float mean_update = 0;
  float u[2] = {};
  double previous_rate = 0;
  for (const Line& line : lines) {
    const UpdateFormula formula = update_formula(weights_slice(), sgd, sgd.momentum, 0.25, previous_rate);
    previous_rate = 0.25;
    float g[2];
    std::vector<WorkerArrays> workers;
    for (const int i : {0, 1}) {
      g[i] = m + u[i] - static_cast<float>(kMinimum[i]);
      const double lambda = compensation_lambda(compensation_norms({&g[i], 1}, {&mean_update, 1}, {&u[i], 1}), options);
      workers.push_back({&g[i], &u[i], {.lambda = static_cast<float>(lambda), .common = 0, .bound = kInfinity}});
    }
    float local = 0;
    form_updates(formula, workers, false, &m, &mean_update, &mean_update, &local, 1);
    CHECK(m == Approx(line.m).epsilon(kTolerance));
    CHECK(u[0] == Approx(line.u0).epsilon(kTolerance));
    CHECK(u[1] == Approx(line.u1).epsilon(kTolerance));
    CHECK(mean_update == Approx(line.u0 + line.u1).epsilon(kTolerance));
    CHECK(local == Approx(line.m + line.u0).epsilon(kTolerance));
    mean_update /= 2;  // what the all-reduce does
  }
}

// On quadratics that share their curvature, worker i's gradient h·(w − b_i): what is true whatever beta is.
namespace {

/// The mean models m + ū, and how far apart the workers are, after each step.
struct QuadraticRun {
  std::vector<double> means;
  std::vector<double> spreads;
};

QuadraticRun run_on_quadratics(float curvature, float own_momentum, int steps, double noise) {
  constexpr std::size_t kWorkers = 3;
  constexpr float kRate = 0.1F;
  const MomentumSgdOptions sgd{.momentum = 0.9F, .weight_decay = 0};
  RandomStream random(5, RandomPurpose::test);
  std::vector<float> m{2}, mean{0}, local(1);
  std::vector<std::vector<float>> u(kWorkers, std::vector<float>(1)), g = u;
  QuadraticRun run;
  for (int step = 0; step < steps; ++step) {
    std::vector<WorkerArrays> workers;
    for (std::size_t k = 0; k < kWorkers; ++k) {
      g[k][0] = curvature * (m[0] + u[k][0]) + static_cast<float>(noise) * random.normal();
      workers.push_back({g[k].data(), u[k].data(), {.bound = kInfinity}});
    }
    form_updates(update_formula(weights_slice(), sgd, own_momentum, kRate, step == 0 ? 0 : kRate), workers, false,
                 m.data(), mean.data(), mean.data(), local.data(), 1);
    mean[0] /= kWorkers;
    double spread = 0;
    for (const auto& update : u) spread += std::pow(mean[0] - update[0], 2);
    run.means.push_back(m[0] + mean[0]);
    run.spreads.push_back(std::sqrt(spread));
  }
  return run;
}

}  // namespace

TEST_CASE("news and what all know make the same mean update, and leave all else as it is") {
  constexpr std::size_t kCount = 40001;
  const UpdateFormula formula{.momentum = 0.8F,
                              .own_momentum = 0.3F,
                              .learning_rate = 0.1F,
                              .weight_decay = 5e-4F,
                              .reach = 1.9F,
                              .known_part = 0.9F};
  for (const std::size_t workers : {1, 3}) {
    State all(kCount, workers);
    State with_news(kCount, workers);
    const std::vector<float> before = with_news.mean_update;
    std::vector<float> news(kCount);
    all.form(formula);
    with_news.form(formula, false, news.data());
    CHECK(with_news.updates == all.updates);
    CHECK(with_news.mean_weights == all.mean_weights);
    CHECK(with_news.local_weights == all.local_weights);
    CHECK(with_news.mean_update == before);
    for (float& value : news) value /= static_cast<float>(workers);
    receive_news(formula, news, with_news.mean_update);
    for (std::size_t i = 0; i < kCount; ++i) {
      CHECK(std::abs(with_news.mean_update[i] - all.mean_update[i] / static_cast<float>(workers)) < 1e-6F);
    }
  }
}

TEST_CASE("the mean model follows synchronous momentum SGD for every beta") {
  constexpr int kSteps = 40;
  constexpr float kCurvature = 3;
  const MomentumSgdOptions sgd{.momentum = 0.9F, .weight_decay = 0};
  // Synchronous: one worker at the mean model, with the mean of the same noise.
  PlainSgd plain(sgd);
  RandomStream random(5, RandomPurpose::test);
  double weight = 2;
  std::vector<double> expected;
  for (int step = 0; step < kSteps; ++step) {
    const double noise = (random.normal() + random.normal() + random.normal()) / 3.0;
    weight = plain.step(kCurvature * weight + noise, weight, 0.1);
    expected.push_back(weight);
  }
  for (const float own_momentum : {0.0F, 0.5F, 0.9F}) {
    CAPTURE(own_momentum);
    const QuadraticRun run = run_on_quadratics(kCurvature, own_momentum, kSteps, 1);
    for (std::size_t step = 0; step < expected.size(); ++step) {
      CHECK(run.means[step] == Approx(expected[step]).epsilon(1e-5).scale(1));
    }
  }
}

TEST_CASE("the workers' spread is stable up to a learning rate times curvature of 1 + beta, and not beyond") {
  for (const float own_momentum : {0.0F, 0.5F, 0.9F}) {
    CAPTURE(own_momentum);
    const auto last_spread = [&](float limit_share) {
      return run_on_quadratics(limit_share * (1 + own_momentum) / 0.1F, own_momentum, 400, 1e-3).spreads.back();
    };
    CHECK(last_spread(0.95F) < 0.1);
    CHECK(last_spread(1.05F) > 1e3);
  }
}
