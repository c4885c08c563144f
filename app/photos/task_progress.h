#pragma once

#include <cstdint>
#include <mutex>
#include <string>

#include "core/stopwatch.h"

namespace dcs3gd::app {

/// Shows how far a task over many images is: a status line on a terminal, a log line every ten seconds elsewhere.
/// add() may be called by several threads at once. The destructor removes the status line.
class TaskProgress {
 public:
  /// `verb`: "packing".
  TaskProgress(std::string verb, std::uint64_t images);
  TaskProgress(const TaskProgress&) = delete;
  TaskProgress& operator=(const TaskProgress&) = delete;
  ~TaskProgress();

  void add(std::uint64_t images);

 private:
  std::string line() const;

  std::string verb_;
  std::uint64_t images_;
  std::mutex mutex_;
  // Guarded by mutex_.
  std::uint64_t done_ = 0;
  Stopwatch total_;
  Stopwatch since_status_;
  Stopwatch since_line_;
};

}  // namespace dcs3gd::app
