#pragma once

#include <functional>
#include <optional>

#include "app/job/background_task.h"

namespace dcs3gd::app {

/// The best evaluation of a run and its model, which rank 0 writes while training goes on. Not thread-safe.
class BestModel {
 public:
  std::optional<double> top1() const { return top1_; }
  void set_top1(std::optional<double> top1) { top1_ = top1; }
  /// Takes note of an evaluation; whether it is the best so far.
  bool is_improved_by(double top1);

  /// Runs `write` in a thread of its own. What it reads stays as it is until wait().
  void start_writing(std::function<void()> write) { task_.start(std::move(write)); }
  bool is_being_written() const { return task_.is_running(); }
  /// Waits for the end of the writing; a failure is a warning.
  void wait();

 private:
  std::optional<double> top1_;
  BackgroundTask task_{"dcs3gd-best"};
};

}  // namespace dcs3gd::app
