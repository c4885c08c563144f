#pragma once

#include <functional>
#include <optional>

namespace dcs3gd::app {

/// Asks a run to stop: SIGTERM, SIGINT or SIGUSR1 from construction to destruction. The run then ends in its own time,
/// after a checkpoint. A second SIGINT ends the process at once. One object at a time: signals belong to the process.
///
/// Launchers answer the death of a rank with SIGTERM to the others, which wait in a step for the dead one. So a step
/// that is still not over a while after the signal, much longer than steps take, ends the process with exit code 1.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  bool received() const;

  /// Around each step.
  void step_begins();
  void step_ends();

 private:
  double longest_step_s_ = 0;
  double begin_s_ = 0;
};

/// When the time of a run is up.
class TimeLimit {
 public:
  /// Both count: minutes from now, and Slurm's end of the job, if the environment tells it, less a reserve for the
  /// checkpoint. `environment` gives the value of a variable or nullptr, as std::getenv does.
  TimeLimit(std::optional<double> minutes, const std::function<const char*(const char*)>& environment);

  bool is_up() const;
  /// From now; negative when it is up; none without a limit.
  std::optional<double> left_s() const;

 private:
  std::optional<double> end_s_;  ///< seconds since the epoch of the system's clock
};

}  // namespace dcs3gd::app
