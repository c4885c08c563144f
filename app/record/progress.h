#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "app/config/configuration.h"
#include "app/record/metrics.h"
#include "core/log.h"

namespace dcs3gd::app {

/// `automatic` becomes `bar` if standard output is a terminal that can erase lines and the process was started by hand,
/// else `lines`; the others stay.
/// The bar needs log::Options::status_line.
ProgressStyle resolve_progress_style(ProgressStyle style);

/// "1:23:45", "4:05", "0:07"; "?" for what is negative, NaN or beyond 30 years.
std::string format_duration(double seconds);

/// What a line of progress says.
struct ProgressState {
  std::int64_t epoch = 0;  ///< 1-based
  std::int64_t epochs = 0;
  std::int64_t step = 0;  ///< 1-based
  std::int64_t steps = 0;
  double loss = 0;
  double lr = 0;
  double images_per_s = 0;
  double left_s = 0;
};

/// "epoch 3/30  step 1200/11730  loss 1.2345  lr 0.0923  1234 img/s  4:05 left"
std::string format_progress_line(const ProgressState& state);
/// The same after a bar of what is done, at most `columns` wide: the bar shrinks first, then the bar and the last
/// fields are left out.
std::string format_progress_bar(const ProgressState& state, int columns);

/// What Progress touches outside of itself; tests put in their own.
struct ProgressOutside {
  std::function<double()> now_s;  ///< monotonic
  std::function<int()> columns;   ///< of the terminal, at this moment
  std::function<void(std::string_view)> status = log::status;
  std::function<void(std::string_view)> line = log::info;

  static ProgressOutside real();
};

/// Shows the training steps of a run. With `bar`, a status line drawn at most every 100 ms, and a log line at the end
/// of each epoch; with `lines`, a log line for the first step, then at most every 10 s, and at the end of each epoch.
/// Rate and time left come from the durations of the steps, smoothed; evaluations and checkpoints between steps do not
/// count. The destructor takes the bar away. Not thread-safe.
class Progress {
 public:
  struct Options {
    ProgressStyle style = ProgressStyle::lines;  ///< resolved
    std::int64_t epochs = 1;
    std::int64_t steps_per_epoch = 1;
    std::int64_t steps = 1;  ///< at which the run ends: epochs × steps_per_epoch or less
  };

  explicit Progress(const Options& options, ProgressOutside outside = ProgressOutside::real());
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void step(const StepEvent& event);

 private:
  void smooth(const StepEvent& event);
  ProgressState state(const StepEvent& event) const;

  Options options_;
  ProgressOutside outside_;
  std::optional<double> shown_s_;  ///< when something was last shown
  double step_s_ = 0;              ///< smoothed duration of a step
  double images_ = 0;              ///< per step, smoothed alike
  double weight_ = 0;              ///< sum of the weights in both, < 1
};

}  // namespace dcs3gd::app
