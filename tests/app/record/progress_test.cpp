#include "app/record/progress.h"

#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/support/file_helpers.h"

using namespace dcs3gd::app;
using dcs3gd::test::contains;

namespace {

/// Stands in for clock, terminal and log.
struct FakeOutside {
  double now_s = 0;
  int columns = 120;
  std::vector<std::string> statuses;
  std::vector<std::string> lines;

  ProgressOutside outside() {
    return {.now_s = [this] { return now_s; },
            .columns = [this] { return columns; },
            .status = [this](std::string_view text) { statuses.emplace_back(text); },
            .line = [this](std::string_view text) { lines.emplace_back(text); }};
  }
};

StepEvent step_event(std::int64_t step, double step_ms, double images = 100) {
  return {.step = step, .epoch = 1, .loss = 2.5, .lr = 0.1, .images_per_s = 1e3 * images / step_ms, .step_ms = step_ms};
}

/// Takes the steps first … last, each `step_s` seconds long.
void take_steps(Progress& progress, FakeOutside& fake, std::int64_t first, std::int64_t last, double step_s) {
  for (std::int64_t step = first; step <= last; ++step) {
    fake.now_s += step_s;
    progress.step(step_event(step, 1e3 * step_s));
  }
}

const ProgressState kState{.epoch = 3,
                           .epochs = 30,
                           .step = 1200,
                           .steps = 4800,
                           .loss = 1.23456,
                           .lr = 0.0923456,
                           .images_per_s = 1234.4,
                           .left_s = 245};

}  // namespace

TEST_CASE("durations are hours, minutes and seconds") {
  CHECK(format_duration(0) == "0:00");
  CHECK(format_duration(7.4) == "0:07");
  CHECK(format_duration(59.6) == "1:00");
  CHECK(format_duration(245) == "4:05");
  CHECK(format_duration(3599.4) == "59:59");
  CHECK(format_duration(5025) == "1:23:45");
  CHECK(format_duration(360'000) == "100:00:00");
  CHECK(format_duration(-1) == "?");
  CHECK(format_duration(std::numeric_limits<double>::quiet_NaN()) == "?");
  CHECK(format_duration(std::numeric_limits<double>::infinity()) == "?");
  CHECK(format_duration(1e300) == "?");
}

TEST_CASE("a line says where the run is, what it learns, how fast, and what is left") {
  CHECK(format_progress_line(kState) == "epoch 3/30  step 1200/4800  loss 1.2346  lr 0.09235  1234 img/s  4:05 left");
  ProgressState slow = kState;
  slow.images_per_s = 3.14;
  slow.loss = std::numeric_limits<double>::quiet_NaN();
  CHECK(format_progress_line(slow) == "epoch 3/30  step 1200/4800  loss nan  lr 0.09235  3.1 img/s  4:05 left");
}

TEST_CASE("the bar fits every terminal") {
  const std::string text = "epoch 3/30 step 1200/4800 loss 1.2346 lr 0.09235 1234 img/s 4:05 left";
  CHECK(format_progress_bar(kState, 200) == "[##########------------------------------] " + text);
  CHECK(format_progress_bar(kState, static_cast<int>(text.size()) + 13) == "[##--------] " + text);
  CHECK(format_progress_bar(kState, static_cast<int>(text.size()) + 12) == text);
  CHECK(format_progress_bar(kState, static_cast<int>(text.size()) - 1) ==
        "epoch 3/30 step 1200/4800 loss 1.2346 lr 0.09235 1234 img/s");
  CHECK(format_progress_bar(kState, 12) == "epoch 3/30");
  CHECK(format_progress_bar(kState, 5) == "epoch");
  CHECK(format_progress_bar(kState, 0).empty());
  CHECK(format_progress_bar(kState, -1).empty());
  for (int columns = 0; columns < 200; ++columns) {
    CHECK(format_progress_bar(kState, columns).size() <= static_cast<std::size_t>(columns));
  }
  ProgressState done = kState;
  done.step = done.steps;
  CHECK(format_progress_bar(done, 200).starts_with("[########################################] "));
}

TEST_CASE("lines come with the first step, every 10 s, and at the ends of epochs and of the run") {
  FakeOutside fake;
  Progress progress({.style = ProgressStyle::lines, .epochs = 2, .steps_per_epoch = 25, .steps = 40}, fake.outside());
  take_steps(progress, fake, 1, 40, 1);
  std::vector<std::string> shown;
  for (const std::string& line : fake.lines) shown.push_back(line.substr(11, line.find("  loss") - 11));
  CHECK(shown ==
        std::vector<std::string>{"step 1/40", "step 11/40", "step 21/40", "step 25/40", "step 35/40", "step 40/40"});
  CHECK(fake.statuses.empty());
}

TEST_CASE("the bar is drawn at most every 100 ms and taken away at the end; ends of epochs are logged too") {
  FakeOutside fake;
  {
    Progress progress({.style = ProgressStyle::bar, .epochs = 2, .steps_per_epoch = 50, .steps = 100}, fake.outside());
    take_steps(progress, fake, 1, 99, 0.03);
    // Steps 1, 5, 9, … 49, the epoch's end 50, then 54, 58, … 98.
    CHECK(fake.statuses.size() == 13 + 1 + 12);
    CHECK(fake.lines.size() == 1);
    CHECK(contains(fake.lines[0], "step 50/100"));
    CHECK(contains(fake.statuses.back(), "step 98/100"));
  }
  CHECK(fake.statuses.back().empty());
}

TEST_CASE("the bar follows the width of the terminal and leaves its last column free") {
  FakeOutside fake;
  Progress progress({.style = ProgressStyle::bar, .steps_per_epoch = 1000, .steps = 1000}, fake.outside());
  for (const int columns : {120, 80, 40, 20, 1}) {
    fake.columns = columns;
    take_steps(progress, fake, 1, 1, 1);
    CHECK(fake.statuses.back().size() < static_cast<std::size_t>(columns));
  }
}

TEST_CASE("nothing is shown where nothing is asked for") {
  FakeOutside fake;
  {
    Progress progress({.style = ProgressStyle::none, .steps_per_epoch = 2, .steps = 4}, fake.outside());
    take_steps(progress, fake, 1, 4, 20);
  }
  CHECK(fake.lines.empty());
  CHECK(fake.statuses.empty());
}

TEST_CASE("rate and time left follow the durations of steps; pauses between steps do not count") {
  FakeOutside fake;
  Progress progress({.style = ProgressStyle::lines, .steps_per_epoch = 1000, .steps = 1000}, fake.outside());
  take_steps(progress, fake, 1, 1, 0.5);
  CHECK(contains(fake.lines.back(), "200 img/s  8:20 left"));  // 999 steps of 0.5 s
  take_steps(progress, fake, 2, 100, 0.5);
  fake.now_s += 3600;  // an evaluation
  take_steps(progress, fake, 101, 101, 0.5);
  CHECK(contains(fake.lines.back(), "200 img/s  7:30 left"));  // 899 steps
  // Steps become twice as long: the smoothed rate gets there within some fifty steps, one step alone changes little.
  fake.now_s += 10;
  take_steps(progress, fake, 102, 102, 1);
  CHECK(contains(fake.lines.back(), "190 img/s  7:52 left"));
  take_steps(progress, fake, 103, 202, 1);
  fake.now_s += 10;
  take_steps(progress, fake, 203, 203, 1);
  CHECK(contains(fake.lines.back(), "step 203/1000"));
  CHECK(contains(fake.lines.back(), "100 img/s"));
}

TEST_CASE("automatic is a bar on a terminal that can erase lines, and lines elsewhere") {
  CHECK(resolve_progress_style(ProgressStyle::bar) == ProgressStyle::bar);
  CHECK(resolve_progress_style(ProgressStyle::lines) == ProgressStyle::lines);
  CHECK(resolve_progress_style(ProgressStyle::none) == ProgressStyle::none);
  setenv("TERM", "dumb", 1);
  CHECK(resolve_progress_style(ProgressStyle::automatic) == ProgressStyle::lines);
}
