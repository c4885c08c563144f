#include <cmath>
#include <limits>
#include <numeric>

#include <doctest/doctest.h>

#include "nn/graph/layer_options.h"
#include "nn/onednn/cpu.h"
#include "tests/nn/network_test_support.h"

using namespace dcs3gd;
using namespace dcs3gd::nn;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// A network whose logits are its images: one linear layer with the identity as its weights.
class LogitsNetwork {
 public:
  LogitsNetwork(int classes, int batch, float label_smoothing = 0, Precision precision = Precision::fp32)
      : network_(identity_graph(classes), {.batch = batch, .label_smoothing = label_smoothing, .precision = precision}),
        gradient_(network_.parameter_layout()) {
    ParameterArena weights(network_.parameter_layout());
    for (int k = 0; k < classes; ++k) weights.values()[static_cast<std::size_t>(k * classes + k)] = 1;
    network_.set_weights(weights);
  }

  BatchResult train(const std::vector<float>& logits, const std::vector<std::int32_t>& labels) {
    return network_.compute_gradient({logits.data(), labels.data(), network_.batch()}, {}, gradient_);
  }
  BatchResult train_mixed(const std::vector<float>& logits, const std::vector<std::int32_t>& labels,
                          const std::vector<std::int32_t>& other_labels, float share) {
    return network_.compute_gradient({logits.data(), labels.data(), network_.batch(), other_labels.data(), share}, {},
                                     gradient_);
  }
  BatchResult evaluate(const std::vector<float>& logits, const std::vector<std::int32_t>& labels) {
    return network_.evaluate({logits.data(), labels.data(), static_cast<int>(labels.size())});
  }
  /// Mean over the images of d loss / d logit[k] · logit[j], at k · classes + j.
  std::span<const float> gradient() const { return gradient_.values(); }

 private:
  static Graph identity_graph(int classes) {
    Graph graph({classes, 1, 1});
    graph.add(Linear{.oc = classes, .bias = false}, graph.input(), "identity");
    return graph;
  }

  Network network_;
  ParameterArena gradient_;
};

struct Correct {
  std::int64_t top1, top5;
  bool operator==(const Correct&) const = default;
};

double log_softmax(const std::vector<float>& logits, std::size_t k) {
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
  return static_cast<double>(logits[k]) - std::log(sum);
}

/// Label smoothing included: −Σ t log p with t = (1 − ε)·onehot + ε/K.
double smoothed_cross_entropy(const std::vector<float>& logits, std::int32_t label, double smoothing) {
  double loss = -(1 - smoothing) * log_softmax(logits, static_cast<std::size_t>(label));
  for (std::size_t k = 0; k < logits.size(); ++k) {
    loss -= smoothing / static_cast<double>(logits.size()) * log_softmax(logits, k);
  }
  return loss;
}

/// What one image with these logits and label 0 counts for, in training and in evaluation.
Correct correct(const std::vector<float>& logits) {
  LogitsNetwork network(static_cast<int>(logits.size()), 1);
  const BatchResult training = network.train(logits, {0});
  const BatchResult evaluation = network.evaluate(logits, {0});
  CHECK(training.correct_top1 == evaluation.correct_top1);
  CHECK(training.correct_top5 == evaluation.correct_top5);
  return {training.correct_top1, training.correct_top5};
}

}  // namespace

TEST_CASE("the loss of known probabilities, with and without label smoothing") {
  // Probabilities 1/6, 1/3, 1/2.
  const std::vector<float> logits{0, std::log(2.0F), std::log(3.0F)};
  const double plain = std::log(2.0);
  const double smoothed = 0.1 * std::log(6.0) + 0.1 * std::log(3.0) + 0.8 * std::log(2.0);

  LogitsNetwork network(3, 1, 0.3F);
  CHECK(network.train(logits, {2}).loss_sum == doctest::Approx(smoothed).epsilon(1e-6));
  CHECK(network.evaluate(logits, {2}).loss_sum == doctest::Approx(plain).epsilon(1e-6));
  CHECK(LogitsNetwork(3, 1).train(logits, {2}).loss_sum == doctest::Approx(plain).epsilon(1e-6));

  const double diff_logits[] = {1.0 / 6 - 0.1, 1.0 / 3 - 0.1, 1.0 / 2 - 0.8};
  for (std::size_t k = 0; k < 3; ++k) {
    for (std::size_t j = 0; j < 3; ++j) {
      CHECK(network.gradient()[k * 3 + j] == doctest::Approx(diff_logits[k] * static_cast<double>(logits[j])));
    }
  }
}

TEST_CASE("the loss is summed over the images, its gradient is that of the mean") {
  const std::vector<float> two_images{1, 2, 3, -1, 0, 5};
  LogitsNetwork both(3, 2);
  LogitsNetwork one(3, 1);
  const BatchResult result = both.train(two_images, {0, 2});
  CHECK(result.images == 2);
  CHECK(result.correct_top1 == 1);

  const double first = one.train({1, 2, 3}, {0}).loss_sum;
  const std::vector<float> first_gradient = test::copy(one.gradient());
  const double second = one.train({-1, 0, 5}, {2}).loss_sum;
  CHECK(result.loss_sum == doctest::Approx(first + second));
  for (std::size_t i = 0; i < first_gradient.size(); ++i) {
    CHECK(both.gradient()[i] == doctest::Approx((first_gradient[i] + one.gradient()[i]) / 2).epsilon(1e-5));
  }
}

TEST_CASE("mixed images: the loss is the mix of two cross-entropies, its gradient that of two gradients") {
  // Numbers that bf16 holds exactly, so that only the gradient is rounded to 8 bits.
  const std::vector<float> logits{0.5F, -1.25F, 2, 0.75F};
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    if (!supports(precision)) {
      MESSAGE("bf16 is not tested: the processor does not have it");
      continue;
    }
    const double gradient_tolerance = precision == Precision::bf16 ? 0.01 : 1e-5;
    for (const float smoothing : {0.0F, 0.1F}) {
      for (const float share : {0.0F, 0.3F, 0.5F, 0.8F, 1.0F}) {
        for (const std::int32_t other : {2, 1, 0}) {  // 0: both show the same class
          CAPTURE(smoothing);
          CAPTURE(share);
          CAPTURE(other);
          LogitsNetwork network(4, 1, smoothing, precision);
          const double lambda = static_cast<double>(share);
          const auto loss_at = [&](const std::vector<float>& at) {
            return lambda * smoothed_cross_entropy(at, 0, static_cast<double>(smoothing)) +
                   (1 - lambda) * smoothed_cross_entropy(at, other, static_cast<double>(smoothing));
          };
          CHECK(network.train_mixed(logits, {0}, {other}, share).loss_sum ==
                doctest::Approx(loss_at(logits)).epsilon(1e-6));
          const std::vector<float> mixed = test::copy(network.gradient());
          network.train(logits, {0});
          const std::vector<float> first = test::copy(network.gradient());
          network.train(logits, {other});
          for (std::size_t k = 0; k < logits.size(); ++k) {
            constexpr float kStep = 0x1p-8F;
            std::vector<float> above = logits;
            std::vector<float> below = logits;
            above[k] += kStep;
            below[k] -= kStep;
            const double slope = (loss_at(above) - loss_at(below)) / (2 * static_cast<double>(kStep));
            for (std::size_t j = 0; j < logits.size(); ++j) {
              const std::size_t at = k * logits.size() + j;
              const double found = static_cast<double>(mixed[at]);
              const double sum_of_two =
                  lambda * static_cast<double>(first[at]) + (1 - lambda) * static_cast<double>(network.gradient()[at]);
              CHECK(std::abs(found - sum_of_two) < gradient_tolerance);
              CHECK(std::abs(found - slope * static_cast<double>(logits[j])) < gradient_tolerance + 2e-5);
            }
          }
        }
      }
    }
  }
}

TEST_CASE("mixed images: the label with the larger share counts as the right answer") {
  LogitsNetwork network(7, 2);
  const std::vector<float> logits{9, 1, 1, 1, 1, 1, 0, 0, 9, 1, 1, 1, 1, 1};
  const auto right = [&](float share) { return network.train_mixed(logits, {0, 0}, {6, 1}, share); };
  CHECK(right(0.7F).correct_top1 == 1);
  CHECK(right(0.7F).correct_top5 == 1);
  CHECK(right(0.5F).correct_top1 == 1);
  CHECK(right(0.3F).correct_top1 == 1);
  CHECK(right(0.3F).images == 2);
  const std::vector<float> both_first{9, 1, 1, 1, 1, 1, 0, 9, 1, 1, 1, 1, 1, 0};
  CHECK(network.train_mixed(both_first, {0, 0}, {6, 6}, 0.7F).correct_top1 == 2);
  CHECK(network.train_mixed(both_first, {0, 0}, {6, 6}, 0.3F).correct_top1 == 0);
  CHECK(network.train_mixed(both_first, {0, 0}, {6, 6}, 0.3F).correct_top5 == 0);
}

TEST_CASE("unmixed images have the loss, to the bit, of images mixed with themselves") {
  const std::vector<float> logits{1, 2, 3, -1, 0, 5};
  LogitsNetwork network(3, 2, 0.1F);
  const BatchResult plain = network.train(logits, {0, 2});
  const std::vector<float> gradient = test::copy(network.gradient());
  const BatchResult mixed = network.train_mixed(logits, {0, 2}, {1, 1}, 1);
  CHECK(plain.loss_sum == mixed.loss_sum);
  CHECK(gradient == test::copy(network.gradient()));
}

TEST_CASE("huge logits neither overflow nor lose the loss") {
  LogitsNetwork network(3, 1);
  CHECK(network.train({1e4F, 0, -1e4F}, {0}).loss_sum == doctest::Approx(0));
  CHECK(network.train({1e4F, 0, -1e4F}, {2}).loss_sum == doctest::Approx(2e4));
}

TEST_CASE("a tie is not correct, rank five is among the first five") {
  CHECK(correct({1, 0, 0, 0, 0, 0, 0}) == Correct{1, 1});
  CHECK(correct({1, 1, 0, 0, 0, 0, 0}) == Correct{0, 1});
  CHECK(correct({1, 2, 2, 2, 2, 0, 0}) == Correct{0, 1});
  CHECK(correct({1, 2, 2, 2, 1, 1, 0}) == Correct{0, 0});
  CHECK(correct({0, 0, 0, 0, 0, 0, 0}) == Correct{0, 0});
}

TEST_CASE("with fewer than five classes every answer is among the first five") {
  CHECK(correct({0, 1, 2}) == Correct{0, 1});
  CHECK(correct({0, 0, 0}) == Correct{0, 1});
  CHECK(correct({3}) == Correct{1, 1});
}

TEST_CASE("with NaN anywhere among the logits no answer is correct") {
  CHECK(correct({kNan, 0, 0, 0, 0, 0, 0}) == Correct{0, 0});
  CHECK(correct({1, 0, 0, kNan, 0, 0, 0}) == Correct{0, 0});
  CHECK(correct({kNan, 0, 0}) == Correct{0, 0});
  CHECK(correct({1, kNan, 0}) == Correct{0, 0});
  CHECK(correct({kNan}) == Correct{0, 0});
  LogitsNetwork network(3, 1);
  CHECK(std::isnan(network.train({1, kNan, 0}, {0}).loss_sum));
}
