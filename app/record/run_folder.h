#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

#include "comm/communicator.h"
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
  /// What the first images of the run look like.
  std::string first_batch() const { return path_ + "/first_batch.jpg"; }
  std::string trace() const { return path_ + "/trace.json"; }
  /// Which run of MLflow's it is.
  std::string mlflow() const { return path_ + "/mlflow_run.txt"; }
  std::string model() const { return path_ + "/model.safetensors"; }
  std::string best() const { return path_ + "/best.safetensors"; }
  std::string checkpoints() const { return path_ + "/checkpoints"; }
  std::string lock() const { return path_ + "/.lock"; }

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

/// Collective: throws Error{input} with ErrorScope::all_ranks unless every rank sees what rank 0 writes in the run
/// folder and may write there itself. Leaves everything as it was.
void expect_shared(comm::Communicator& communicator, const RunFolder& folder);

/// The right to write to a run folder, for one process at a time (rank 0 of a run); given back by the destructor or
/// when the process ends in any way. Held by an flock on `<run folder>/.lock`, which says who holds it, since when, and
/// gets another beat every few seconds: on file systems without locks a claim waits to see none. A thread of its own
/// beats, and makes the file anew if it is removed.
class RunFolderClaim {
 public:
  /// Creates the folder and its parents as needed, and removes what a crash left unfinished in the folder itself.
  /// Throws Error{input} if another process holds it, if it is used and is to be refused, and if it cannot be created
  /// or written to.
  RunFolderClaim(const RunFolder& folder, IfUsed if_used);
  ~RunFolderClaim();
  RunFolderClaim(const RunFolderClaim&) = delete;
  RunFolderClaim& operator=(const RunFolderClaim&) = delete;

  /// Who has taken the folder over, as far as is known; empty: nobody. Thread-safe, never waits for storage.
  std::string taken_by() const;
  /// Looks again; throws Error{failure} if the folder is no longer this process's. Before anything in it is replaced.
  /// Thread-safe.
  void expect_held();

 private:
  void beat();

  const std::string folder_;
  const std::string path_;    ///< of the lock file
  const std::string holder_;  ///< this process, in its words
  mutable std::mutex mutex_;  ///< of all below
  FileDescriptor lock_;
  std::int64_t beats_ = 0;
  std::string taken_by_;
  std::atomic<bool> is_taken_ = false;  ///< to be asked without the mutex, which slow storage may hold
  std::condition_variable_any ends_;
  std::jthread heart_;  ///< last: uses all of the above
};

}  // namespace dcs3gd::app
