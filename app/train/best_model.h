#pragma once

#include <functional>
#include <optional>

#include "app/job/background_task.h"
#include "app/model/safetensors.h"
#include "comm/communicator.h"

namespace dcs3gd::app {

/// The best evaluation of a run and its model, which rank 0 writes while training goes on. Not thread-safe.
class BestModel {
 public:
  std::optional<double> top1() const { return top1_; }
  void set_top1(std::optional<double> top1) { top1_ = written_top1_ = top1; }
  /// Takes note of an evaluation; whether it is the best so far.
  bool is_improved_by(double top1);

  /// Runs `write` in a thread of its own, which returns what it wrote. What it reads stays as it is until wait().
  void start_writing(std::function<FileDigest()> write);
  /// The file as it was last written; none before. Not while one is being written.
  const std::optional<FileDigest>& file() const { return file_; }
  void set_file(const std::optional<FileDigest>& file) { file_ = file; }
  bool is_being_written() const { return task_.is_running(); }
  /// Waits for the end of the writing; after a failure, a warning, the best is what was written before. Collective
  /// where it is given the others.
  void wait();
  void wait(comm::Communicator& communicator);

 private:
  std::optional<double> top1_;
  std::optional<double> written_top1_;  ///< of file_; the thread's while it writes
  std::optional<FileDigest> file_;      ///< the thread's while it writes
  BackgroundTask task_{"dcs3gd-best"};
};

}  // namespace dcs3gd::app
