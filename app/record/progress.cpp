#include "app/record/progress.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>
#include <vector>

#include <sys/ioctl.h>
#include <unistd.h>

#include "comm/launcher.h"
#include "core/format.h"
#include "core/stopwatch.h"

namespace dcs3gd::app {
namespace {

constexpr double kDrawInterval_s = 0.1;
constexpr double kLineInterval_s = 10;
constexpr double kSmoothing = 0.05;  // weight of the newest step: about the last 20 steps count
constexpr int kDefaultColumns = 80;
constexpr int kMinBarColumns = 10;
constexpr int kMaxBarColumns = 40;
constexpr double kRateWithoutDecimals = 100;
constexpr double kLongestDuration_s = 1e9;  // 30 years: whatever is longer is not known

std::vector<std::string> fields(const ProgressState& state) {
  const int rate_decimals = state.images_per_s < kRateWithoutDecimals ? 1 : 0;
  return {format("epoch {}/{}", state.epoch, state.epochs),
          format("step {}/{}", state.step, state.steps),
          format("loss {:.4f}", state.loss),
          format("lr {:.4g}", state.lr),
          format("{:.{}f} img/s", state.images_per_s, rate_decimals),
          format("{} left", format_duration(state.left_s))};
}

std::string joined(const std::vector<std::string>& texts, std::string_view separator) {
  std::string text = texts.front();
  for (std::size_t i = 1; i < texts.size(); ++i) text.append(separator).append(texts[i]);
  return text;
}

int terminal_columns() {
  winsize size{};
  return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kDefaultColumns;
}

}  // namespace

ProgressStyle resolve_progress_style(ProgressStyle style) {
  if (style != ProgressStyle::automatic) return style;
  // mpirun gives its processes a terminal of their own and copies it to wherever its own output goes.
  if (comm::find_launch(std::getenv)) return ProgressStyle::lines;
  const char* const terminal = std::getenv("TERM");
  const bool can_erase = terminal != nullptr && std::string_view(terminal) != "dumb";
  return can_erase && ::isatty(STDOUT_FILENO) == 1 ? ProgressStyle::bar : ProgressStyle::lines;
}

std::string format_duration(double seconds) {
  if (!(seconds >= 0 && seconds < kLongestDuration_s)) return "?";
  const auto whole = std::llround(seconds);
  const auto hours = whole / 3600;
  const auto minutes = whole / 60 % 60;
  return hours > 0 ? format("{}:{:02}:{:02}", hours, minutes, whole % 60) : format("{}:{:02}", minutes, whole % 60);
}

std::string format_progress_line(const ProgressState& state) { return joined(fields(state), "  "); }

std::string format_progress_bar(const ProgressState& state, int columns) {
  std::vector<std::string> texts = fields(state);
  std::string text = joined(texts, " ");
  const int room = columns - static_cast<int>(text.size()) - 3;  // brackets and a space
  if (room >= kMinBarColumns) {
    const int width = std::min(room, kMaxBarColumns);
    const double done = static_cast<double>(state.step) / static_cast<double>(state.steps);
    const int filled = std::clamp(static_cast<int>(done * width), 0, width);
    return format("[{:#<{}}{:-<{}}] {}", "", filled, "", width - filled, text);
  }
  while (texts.size() > 1 && static_cast<int>(text.size()) > columns) {
    texts.pop_back();
    text = joined(texts, " ");
  }
  return text.substr(0, static_cast<std::size_t>(std::max(columns, 0)));
}

ProgressOutside ProgressOutside::real() {
  ProgressOutside outside;
  outside.now_s = [watch = Stopwatch()] { return watch.elapsed_s(); };
  outside.columns = terminal_columns;
  return outside;
}

Progress::Progress(const Options& options, ProgressOutside outside) : options_(options), outside_(std::move(outside)) {}

Progress::~Progress() {
  if (options_.style == ProgressStyle::bar) outside_.status("");
}

void Progress::step(const StepEvent& event) {
  if (options_.style == ProgressStyle::none) return;
  smooth(event);
  const bool bar = options_.style == ProgressStyle::bar;
  const double now = outside_.now_s();
  const bool due = !shown_s_ || now - *shown_s_ >= (bar ? kDrawInterval_s : kLineInterval_s);
  const bool last = event.step % options_.steps_per_epoch == 0 || event.step == options_.steps;
  if (!due && !last) return;
  shown_s_ = now;
  // A terminal wraps a line that fills its last column, and a wrapped line cannot be erased.
  if (bar) outside_.status(format_progress_bar(state(event), outside_.columns() - 1));
  if (!bar || last) outside_.line(format_progress_line(state(event)));
}

void Progress::smooth(const StepEvent& event) {
  const double step_s = event.step_ms / 1e3;
  const auto average = [](double& mean, double value) { mean += kSmoothing * (value - mean); };
  average(step_s_, step_s);
  average(images_, event.images_per_s * step_s);
  average(weight_, 1);
}

ProgressState Progress::state(const StepEvent& event) const {
  ProgressState state;
  state.epoch = event.epoch;
  state.epochs = options_.epochs;
  state.step = event.step;
  state.steps = options_.steps;
  state.loss = event.loss;
  state.lr = event.lr;
  state.images_per_s = images_ / step_s_;
  state.left_s = step_s_ / weight_ * static_cast<double>(options_.steps - event.step);
  return state;
}

}  // namespace dcs3gd::app
