#pragma once

#include <functional>
#include <optional>

namespace dcs3gd::app {

/// Asks a run to stop, by the signals with which terminals, schedulers and limits say goodbye: SIGTERM, SIGINT, SIGHUP
/// (unless it was ignored, as under nohup), SIGUSR1, SIGUSR2, SIGXCPU, from construction to destruction. The run then
/// ends in its own time, after a checkpoint. A second SIGINT ends the process at once. One object at a time: signals
/// belong to the process.
///
/// A step that does not end after the signal ends the process with exit code 1: when the patience is over, or much
/// earlier if the launcher is gone, and with it whoever would have told of another rank's death. Time in which the
/// process is suspended does not count.
class StopSignals {
 public:
  /// `has_launcher`: whether the parent process is there as long as the job is.
  explicit StopSignals(bool has_launcher);
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  bool received() const;

  /// How long a step may take after a signal, or five times the longest before it; but not beyond the moment in which
  /// the process will be killed anyway, in seconds from now.
  void set_patience(double limit_s, std::optional<double> killed_in_s);

  /// Around each step. What comes before the first counts as one.
  void step_begins();
  void step_ends();

 private:
  double configured_patience_s_;
  double last_step_s_ = 0;
  double longest_step_s_ = 0;
  double begin_s_ = 0;
};

/// When the time of a run is up.
class TimeLimit {
 public:
  /// Both count: minutes from now, and Slurm's end of the job, if the environment tells it, less a reserve for the
  /// checkpoint. Throws Error{input} if that is over already. `environment` gives the value of a variable or nullptr,
  /// as std::getenv does; `system_now_s` the seconds since the epoch, which may jump: only Slurm's end is compared with
  /// it.
  TimeLimit(std::optional<double> minutes, const std::function<const char*(const char*)>& environment,
            std::function<double()> system_now_s = TimeLimit::system_clock_s);

  bool is_up() const;
  /// From now; negative when it is up; none without a limit.
  std::optional<double> left_s() const;
  /// Until Slurm ends the job; none outside of it.
  std::optional<double> killed_in_s() const;

  static double system_clock_s();

 private:
  std::function<double()> system_now_s_;
  std::optional<double> end_s_;        ///< of the minutes, by the steady clock
  std::optional<double> slurm_end_s_;  ///< by the system's clock
};

}  // namespace dcs3gd::app
