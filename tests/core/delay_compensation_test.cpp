#include "core/optim/delay_compensation.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include "core/parallel_blocks.h"
#include "core/random_stream.h"
#include "tests/core/optim_support.h"

using namespace dcs3gd;
using namespace dcs3gd::optim;
using namespace dcs3gd::optim::test;
using doctest::Approx;

namespace {

constexpr std::size_t kAwkwardSizes[] = {1, 7, 8, 9, 1000, kBlockElements, kBlockElements + 1, 3 * kBlockElements + 13};
constexpr double kFloatEpsilon = 0x1p-23;
constexpr double kBf16Epsilon = 0x1p-8;

/// The definitions, one element after the other.
CompensationNorms naive_norms(const std::vector<float>& g, const std::vector<float>& mean_update,
                              const std::vector<float>& u) {
  CompensationNorms norms;
  for (std::size_t i = 0; i < g.size(); ++i) {
    const double distance = mean_update[i] - u[i];
    const double product = static_cast<double>(g[i]) * g[i] * distance;
    norms += {static_cast<double>(g[i]) * g[i], product * product, distance * distance,
              static_cast<double>(u[i]) * u[i], g[i] * distance};
  }
  return norms;
}

void check_equal(const CompensationNorms& actual, const CompensationNorms& expected) {
  CHECK(actual.gradient == expected.gradient);
  CHECK(actual.product == expected.product);
  CHECK(actual.distance == expected.distance);
  CHECK(actual.update == expected.update);
  CHECK(actual.along == expected.along);
}

void check_close(const CompensationNorms& actual, const CompensationNorms& expected) {
  constexpr double kTolerance = 1e-13;
  CHECK(actual.gradient == Approx(expected.gradient).epsilon(kTolerance).scale(0));
  CHECK(actual.product == Approx(expected.product).epsilon(kTolerance).scale(0));
  CHECK(actual.distance == Approx(expected.distance).epsilon(kTolerance).scale(0));
  CHECK(actual.update == Approx(expected.update).epsilon(kTolerance).scale(0));
  // A sum with both signs: relative to what Cauchy and Schwarz allow.
  CHECK(std::abs(actual.along - expected.along) <= kTolerance * std::sqrt(expected.gradient * expected.distance));
}

}  // namespace

TEST_CASE("compensation_norms equal the definition, on every number of threads the same bits") {
  for (const std::size_t size : kAwkwardSizes) {
    CAPTURE(size);
    const std::vector<float> g = normal_numbers(size, 1);
    const std::vector<float> mean_update = normal_numbers(size, 2, 0.1F);
    const std::vector<float> u = normal_numbers(size, 3, 0.1F);
    const CompensationNorms first = compensation_norms(g, mean_update, u);
    check_close(first, naive_norms(g, mean_update, u));
    for_threads_1_to_3([&] { check_equal(compensation_norms(g, mean_update, u), first); });
  }
}

TEST_CASE("compensation_norms see a NaN or Inf of the gradient wherever it is") {
  std::vector<float> g = normal_numbers(2 * kBlockElements + 5, 1);
  const std::vector<float> u = normal_numbers(g.size(), 3);
  const std::vector<float> mean_update = normal_numbers(g.size(), 2);
  for (const float poison : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                             -std::numeric_limits<float>::infinity()}) {
    for (const std::size_t place : {std::size_t{0}, kBlockElements - 1, g.size() - 1}) {
      CAPTURE(place);
      const float saved = g[place];
      g[place] = poison;
      CHECK_FALSE(std::isfinite(compensation_norms(g, mean_update, u).gradient));
      g[place] = saved;
    }
  }
}

TEST_CASE("compensation_norms neither underflow nor overflow for any float") {
  for (const float size : {1e-38F, 1e-30F, 1e-20F, 1e20F, 1e38F}) {
    CAPTURE(size);
    const CompensationNorms norms =
        compensation_norms(std::vector<float>(3, size), std::vector<float>(3, 2 * size), std::vector<float>(3, size));
    const double s = size;
    CHECK(norms.gradient == Approx(3 * s * s).epsilon(1e-12).scale(0));
    CHECK(norms.product == Approx(3 * std::pow(s, 6)).epsilon(1e-12).scale(0));
    CHECK(norms.distance == Approx(3 * s * s).epsilon(1e-12).scale(0));
    CHECK(norms.update == Approx(3 * s * s).epsilon(1e-12).scale(0));
  }
}

TEST_CASE("scale_gradient gives the norms of the scaled gradient") {
  constexpr float kFactor = 0.25F;  // exact in float
  std::vector<float> g = normal_numbers(1000, 1);
  const std::vector<float> mean_update = normal_numbers(g.size(), 2);
  const std::vector<float> u = normal_numbers(g.size(), 3);
  CompensationNorms scaled = compensation_norms(g, mean_update, u);
  scaled.scale_gradient(kFactor);
  for (float& value : g) value *= kFactor;
  check_equal(scaled, compensation_norms(g, mean_update, u));
}

TEST_CASE("scale_updates gives the norms of scaled updates") {
  constexpr float kFactor = 0.25F;
  const std::vector<float> g = normal_numbers(1000, 1);
  std::vector<float> mean_update = normal_numbers(g.size(), 2);
  std::vector<float> u = normal_numbers(g.size(), 3);
  CompensationNorms scaled = compensation_norms(g, mean_update, u);
  scaled.scale_updates(kFactor);
  for (std::vector<float>* values : {&mean_update, &u}) {
    for (float& value : *values) value *= kFactor;
  }
  check_equal(scaled, compensation_norms(g, mean_update, u));
}

TEST_CASE("a constant lambda takes the place of lambda0's, but where the distance is rounding") {
  CompensationNorms norms{.gradient = 4, .product = 1, .distance = 1, .update = 0};
  CHECK(compensation_lambda(norms, {.lambda = 0.04}) == 0.04);
  CHECK(compensation_lambda(norms, {.lambda = 0.04, .lambda_max = 0.01}) == 0.01);
  norms.distance = 0;
  CHECK(compensation_lambda(norms, {.lambda = 0.04}) == 0);
}

TEST_CASE("lambda makes the correction lambda0 of the gradient's norm") {
  const std::vector<float> g = normal_numbers(5000, 1);
  const std::vector<float> mean_update = normal_numbers(g.size(), 2, 1e-3F);
  const std::vector<float> u = normal_numbers(g.size(), 3, 1e-3F);
  for (const double lambda0 : {0.04, 0.2, 1.0}) {
    CAPTURE(lambda0);
    const CompensationNorms norms = compensation_norms(g, mean_update, u);
    const double lambda = compensation_lambda(norms, {.lambda0 = lambda0, .workers = 4});
    std::vector<double> correction;
    std::vector<double> gradient;
    for (std::size_t i = 0; i < g.size(); ++i) {
      correction.push_back(lambda * g[i] * g[i] * static_cast<double>(mean_update[i] - u[i]));
      gradient.push_back(g[i]);
    }
    CHECK(norm(correction) == Approx(lambda0 * norm(gradient)).epsilon(1e-13).scale(0));
  }
}

TEST_CASE("lambda is 0 up to a distance of N eps times the update, and not beyond") {
  constexpr double kUpdateNorm = 3;
  for (const double rounding : {kFloatEpsilon, kBf16Epsilon}) {
    for (const int workers : {1, 2, 3, 128}) {
      CAPTURE(rounding);
      CAPTURE(workers);
      const double limit = workers * rounding * kUpdateNorm;
      const auto lambda_at = [&](double distance) {
        return compensation_lambda(
            {.gradient = 4, .product = 1, .distance = distance * distance, .update = kUpdateNorm * kUpdateNorm},
            {.lambda0 = 0.2, .workers = workers, .rounding = rounding});
      };
      CHECK(lambda_at(0) == 0);
      CHECK(lambda_at(0.5 * limit) == 0);
      CHECK(lambda_at(limit * (1 - 1e-9)) == 0);
      CHECK(lambda_at(limit * (1 + 1e-9)) == Approx(0.4));
      CHECK(lambda_at(1e3 * limit) == Approx(0.4));
    }
  }
}

TEST_CASE("lambda is 0 where the quotient is not a finite float") {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  const auto lambda_of = [](double gradient, double product) {
    return compensation_lambda({.gradient = gradient, .product = product, .distance = 1, .update = 0}, {});
  };
  CHECK(lambda_of(1, 0) == 0);
  CHECK(lambda_of(0, 0) == 0);
  CHECK(lambda_of(kNaN, 1) == 0);
  CHECK(lambda_of(kInf, 1) == 0);
  CHECK(lambda_of(kInf, kInf) == 0);
  CHECK(lambda_of(1, 1e-80) == 0);  // 0.2 · 10⁴⁰
  CHECK(lambda_of(1, 1e-70) == Approx(0.2e35).scale(0));
}

TEST_CASE("lambda is 0 where lambda0 is") {
  const CompensationNorms norms{.gradient = 4, .product = 1, .distance = 1, .update = 0};
  CHECK(compensation_lambda(norms, {.lambda0 = 0}) == 0);
}

TEST_CASE("lambda_max caps lambda and leaves smaller ones alone") {
  const CompensationNorms norms{.gradient = 4, .product = 1, .distance = 1, .update = 0};  // λ = 0.4
  CHECK(compensation_lambda(norms, {.lambda_max = 0.3}) == 0.3);
  CHECK(compensation_lambda(norms, {.lambda_max = 0.5}) == Approx(0.4));
  CHECK(compensation_lambda(norms, {.lambda_max = 0.0}) == 0);
  CHECK(compensation_lambda(norms, {}) == Approx(0.4));
}
