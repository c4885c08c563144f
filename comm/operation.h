#pragma once

#include <string>

namespace dcs3gd::comm {

/// What a step of an operation came to.
enum class Step {
  waiting,  ///< nothing could be done: call again, perhaps after a pause
  moved,    ///< something was done: call again at once
  done,
};

/// A collective under way, as an object that the progress thread drives: start() once, then step() until done. All
/// ranks start the same operations in the same order. Whatever an operation works on must stay where it is until done;
/// an operation that failed is kept until its transport is closed, since messages may still be under way.
class Operation {
 public:
  virtual ~Operation() = default;

  virtual void start() = 0;
  /// Never blocks for longer than its own work (a bare MPI_Allreduce excepted). Throws Error when the world is broken.
  virtual Step step() = 0;

  /// A word for the trace (core/trace.h), where operations of one kind look alike.
  virtual const char* kind() const { return "collective"; }
  /// For messages and dumps: "ring all-reduce of 25,557,032 floats, step 5 of 14". From any thread.
  virtual std::string name() const = 0;
  /// For the message of a time-out: who is waited for.
  virtual std::string waits_for() const = 0;
};

}  // namespace dcs3gd::comm
