#include "app/rules/fresh_part.h"

#include <memory>
#include <string>
#include <vector>

#include <doctest/doctest.h>

using namespace dcs3gd;
using namespace dcs3gd::app;
using doctest::Approx;

namespace {

constexpr std::int64_t kMillion = 1'000'000;

/// Ten layers of a million parameters, each 1 ms forward and 2 ms backward, or as many as `scale` makes of them.
struct TenLayers {
  explicit TenLayers(std::int64_t parameters = kMillion) {
    std::vector<ParameterSlice> slices;
    for (int i = 0; i < 10; ++i) {
      slices.push_back({.name = std::to_string(i), .shape = {parameters}});
      profile.slices.push_back({.needed_ms = 1.0 * i, .ready_ms = 10.0 + 2 * (10 - i)});
    }
    layout = std::make_shared<const ParameterLayout>(std::move(slices));
    profile.compute_ms = 30;
  }
  void set_link(double all_ms, double latency_ms = 0) {
    profile.latency_ms = latency_ms;
    profile.ms_per_element = all_ms / static_cast<double>(layout->element_count());
  }

  std::shared_ptr<const ParameterLayout> layout;
  StepProfile profile;
};

}  // namespace

TEST_CASE("the fresh part is the longest tail of whole slices within its share, if that is half of it") {
  const ParameterLayout layout(
      {{.name = "a", .shape = {100}}, {.name = "b", .shape = {20}}, {.name = "c", .shape = {8}}});
  CHECK(first_fresh_slice(layout, 0) == 3);
  CHECK(first_fresh_slice(layout, 1.0 / 128) == 2);  // nothing is short enough
  CHECK(first_fresh_slice(layout, 8.0 / 128) == 2);
  CHECK(first_fresh_slice(layout, 15.9 / 128) == 2);
  CHECK(first_fresh_slice(layout, 16.1 / 128) == 1);
  CHECK(first_fresh_slice(layout, 28.0 / 128) == 1);
  CHECK(first_fresh_slice(layout, 55.9 / 128) == 1);
  CHECK(first_fresh_slice(layout, 0.95) == 0);
  CHECK(first_fresh_slice(layout, 1) == 0);
}

TEST_CASE("a link that takes no time leaves a step as long as its computing, and everything fresh") {
  const TenLayers model;
  for (const std::size_t first : {0, 5, 10})
    CHECK(predicted_step_ms(*model.layout, model.profile, first) == Approx(30));
  CHECK(hidden_fresh_share(*model.layout, model.profile) == 1);
}

TEST_CASE("stale updates are hidden up to a step's length, and a longer all-reduce is the step") {
  TenLayers model;
  model.set_link(29);
  CHECK(predicted_step_ms(*model.layout, model.profile, 10) == Approx(30));
  model.set_link(60);
  CHECK(predicted_step_ms(*model.layout, model.profile, 10) == Approx(60));
}

TEST_CASE("what is all fresh waits for the first layers, whose gradients are ready last and needed first") {
  TenLayers model;
  // Each layer is a bucket of its own: layer 0 leaves at the end of the step and is needed at its start.
  model.set_link(10);
  CHECK(predicted_step_ms(*model.layout, model.profile, 0) == Approx(31));
  model.set_link(10, 0.5);
  CHECK(predicted_step_ms(*model.layout, model.profile, 0) == Approx(31.5));
}

TEST_CASE("as much is fresh as the link hides") {
  TenLayers model;
  double last = 1.1;
  for (const double all_ms : {0.5, 10.0, 15.0, 20.0, 25.0, 29.0}) {
    CAPTURE(all_ms);
    model.set_link(all_ms);
    const double share = hidden_fresh_share(*model.layout, model.profile);
    CHECK(share <= last);
    last = share;
    const std::size_t first = first_fresh_slice(*model.layout, share);
    const double all_stale = predicted_step_ms(*model.layout, model.profile, 10);
    CHECK(predicted_step_ms(*model.layout, model.profile, first) <= 1.02 * all_stale);
    if (first > 0) CHECK(predicted_step_ms(*model.layout, model.profile, first - 1) > 1.02 * all_stale);
  }
  model.set_link(10);
  CHECK(first_fresh_slice(*model.layout, hidden_fresh_share(*model.layout, model.profile)) == 1);
}
