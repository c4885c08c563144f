#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/oracle/comparison.h"
#include "tests/oracle/engine_run.h"
#include "tests/oracle/formula.h"

using namespace dcs3gd;
using namespace dcs3gd::oracle;

namespace {

Recording recording_of(const std::string& model) {
  return Recording(std::string(DCS3GD_ORACLE_RECORDINGS) + "/" + model + ".txt");
}

std::vector<Deviation> train_and_compare(const std::string& model, const Recording& recording,
                                         const TrainingRules& rules) {
  const nn::Graph graph = graph_of(model, recording);
  return compare(recording, run_engine(graph, recording, rules, first_state(graph, recording)).results);
}

void check_engine_equals_recording(const std::string& model) {
  const Recording recording = recording_of(model);
  TrainingRules rules(recording);
  for (const auto algorithm : {"ssgd", "s3gd", "dc_s3gd"}) {
    CAPTURE(algorithm);
    rules.algorithm = algorithm;
    for (const Deviation& deviation : train_and_compare(model, recording, rules)) {
      CAPTURE(deviation.name);
      CAPTURE(deviation.scale);
      CHECK(deviation.distance <= deviation.allowed);
    }
  }
}

/// A wrong rule must be far beyond every tolerance, not just beside it.
constexpr double kFarBeyond = 50;

using MakeWrong = std::function<void(TrainingRules&)>;

/// Trains by rules that `make_wrong` spoilt and returns what the comparison finds.
std::vector<Deviation> deviations_of_wrong_rules(const std::string& model, const MakeWrong& make_wrong) {
  const Recording recording = recording_of(model);
  TrainingRules rules(recording);
  make_wrong(rules);
  return train_and_compare(model, recording, rules);
}

}  // namespace

TEST_CASE("lenet5 computes and trains as in PyTorch") { check_engine_equals_recording("lenet5"); }
TEST_CASE("resnet20 computes and trains as in PyTorch") { check_engine_equals_recording("resnet20"); }
TEST_CASE("resnet18 computes and trains as in PyTorch") { check_engine_equals_recording("resnet18"); }
// Skipped unless asked for (oracle_vgg_test): 132 million parameters.
TEST_CASE("vgg11_bn computes and trains as in PyTorch" * doctest::skip()) { check_engine_equals_recording("vgg11_bn"); }
TEST_CASE("resnet50 computes and trains as in PyTorch") { check_engine_equals_recording("resnet50"); }

TEST_CASE("decay on biases and batch norms is noticed, in each of them") {
  for (const char* model : {"lenet5", "resnet20"}) {
    CAPTURE(std::string(model));
    int undecayed = 0;
    for (const Deviation& deviation :
         deviations_of_wrong_rules(model, [](TrainingRules& rules) { rules.sgd.decay_norm_and_bias = true; })) {
      const bool is_norm =
          deviation.name.find("bn") != std::string::npos || deviation.name.find("downsample.1") != std::string::npos;
      if (!deviation.name.starts_with("change.") || !(is_norm || deviation.name.ends_with(".bias"))) continue;
      CAPTURE(deviation.name);
      CHECK(deviation.badness() > kFarBeyond);
      ++undecayed;
    }
    CHECK(undecayed > 0);
  }
}

TEST_CASE("wrong rules of the optimizer and the schedule are noticed in the weights") {
  struct WrongRule {
    std::string what;
    MakeWrong make_wrong;
  };
  const std::vector<WrongRule> wrong_rules = {
      {"no decay", [](TrainingRules& rules) { rules.sgd.weight_decay = 0; }},
      {"a tenth less decay", [](TrainingRules& rules) { rules.sgd.weight_decay *= 0.9F; }},
      {"Nesterov", [](TrainingRules& rules) { rules.sgd.nesterov = true; }},
      {"less momentum", [](TrainingRules& rules) { rules.sgd.momentum -= 0.01F; }},
      {"the warm-up a step ahead", [](TrainingRules& rules) { rules.first_step = 1; }},
  };
  for (const char* model : {"lenet5", "resnet20"}) {
    for (const WrongRule& wrong : wrong_rules) {
      CAPTURE(std::string(model));
      CAPTURE(wrong.what);
      const std::vector<Deviation> deviations = deviations_of_wrong_rules(model, wrong.make_wrong);
      CHECK(worst(deviations, "change").badness() > kFarBeyond);
      CHECK(worst(deviations, "gradient").is_right());
    }
  }
}

TEST_CASE("wrong label smoothing is noticed in losses and gradients") {
  const std::vector<Deviation> deviations =
      deviations_of_wrong_rules("resnet20", [](TrainingRules& rules) { rules.label_smoothing = 0; });
  CHECK(worst(deviations, "losses").badness() > kFarBeyond);
  CHECK(worst(deviations, "gradient").badness() > kFarBeyond);
  CHECK(worst(deviations, "learning_rates").is_right());
}

TEST_CASE("the comparison notices swapped elements, missing lines and NaN") {
  std::vector<double> values(100);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<double>(i));
  Recording expected;
  expected.add("gradient.weight", sketch("gradient.weight", values));
  expected.add("background.gradient.weight", {1});
  expected.add("losses", {2.5, 2.25});
  CHECK(worst(compare(expected, expected)).is_right());

  SUBCASE("two elements changed places: the norm is the same") {
    std::swap(values[10], values[11]);
    Recording found = expected;
    found.add("gradient.weight", sketch("gradient.weight", values));
    CHECK(worst(compare(expected, found), "gradient").badness() > kFarBeyond);
  }
  SUBCASE("a line is missing, on either side") {
    Recording fewer;
    fewer.add("losses", {2.5, 2.25});
    CHECK(std::isinf(worst(compare(expected, fewer)).badness()));
    CHECK(std::isinf(worst(compare(fewer, expected)).badness()));
  }
  SUBCASE("a list is shorter") {
    Recording found = expected;
    found.add("losses", {2.5});
    CHECK(std::isinf(worst(compare(expected, found), "losses").badness()));
  }
  SUBCASE("NaN") {
    Recording found = expected;
    values[3] = std::nan("");
    found.add("gradient.weight", sketch("gradient.weight", values));
    found.add("losses", {2.5, std::nan("")});
    CHECK(std::isinf(worst(compare(expected, found), "gradient").badness()));
    CHECK(std::isinf(worst(compare(expected, found), "losses").badness()));
  }
}
