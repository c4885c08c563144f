#pragma once

#include <string>

#include "core/files.h"

namespace dcs3gd::app {

/// Where the files of a run are: `<output_dir>/<name>/`. Names only; nothing is created by it.
class RunFolder {
 public:
  RunFolder(const std::string& output_dir, const std::string& name);

  const std::string& path() const { return path_; }
  std::string config() const { return path_ + "/config.yaml"; }
  /// The algorithms of the convolutions: a run that continues keeps them.
  std::string convolutions() const { return path_ + "/convolutions.txt"; }
  std::string metrics() const { return path_ + "/metrics.jsonl"; }
  /// log.txt of rank 0, log.rank0003.txt of rank 3.
  std::string log(int rank) const;
  std::string summary() const { return path_ + "/summary.json"; }
  std::string trace() const { return path_ + "/trace.json"; }
  std::string model() const { return path_ + "/model.safetensors"; }
  std::string best() const { return path_ + "/best.safetensors"; }
  std::string checkpoints() const { return path_ + "/checkpoints"; }

  /// Whether a run left results in it: metrics, a model or checkpoints. Configuration and logs alone are no results.
  bool is_used() const;

 private:
  std::string path_;
};

/// What claiming does with a used run folder.
enum class IfUsed {
  go_on,  ///< write to it as it is
  refuse,
  set_aside,  ///< rename it to `<name>.1`, or the first number that is free
};

/// The right to write to a run folder, for one process at a time (rank 0 of a run); given back by the destructor or
/// when the process ends in any way. Held by an flock on `<run folder>/.lock`, which says who holds it.
class RunFolderClaim {
 public:
  /// Creates the folder and its parents as needed. Throws Error{input} if another process holds it, if it is used and
  /// is to be refused, and if it cannot be created or written to. On file systems without locks it warns and goes on.
  RunFolderClaim(const RunFolder& folder, IfUsed if_used);

 private:
  FileDescriptor lock_;
};

}  // namespace dcs3gd::app
