#pragma once

#include <string>

namespace dcs3gd::comm {

/// What a step of an operation came to.
enum class Step {
  waiting,  ///< nothing could be done: call again, perhaps after a pause
  moved,    ///< something was done: call again at once
  done,
};

/// A collective as an object that the progress thread drives: start(), then step() until done; that of a plan is
/// started again and again. All ranks start the same operations in the same order. Whatever an operation works on must
/// stay where it is until done; an operation that failed is kept until its transport is closed, since messages may
/// still be in flight.
class Operation {
 public:
  virtual ~Operation() = default;

  /// Every message carries the tag, which no other operation in flight has.
  virtual void start(int tag) = 0;
  /// Never blocks for longer than its own work (a bare MPI_Allreduce excepted). Throws Error when the world is broken.
  virtual Step step() = 0;

  /// Whether no other operation may be in flight beside it: it blocks in a step, or all ranks have to come to its steps
  /// in the same order.
  virtual bool runs_alone() const { return false; }

  /// Operations with a smaller one go first.
  virtual int urgency() const { return 0; }
  /// Whether a more urgent operation is in flight, so that this one should take as little of the link as keeps it
  /// going.
  void set_yields(bool yields) { yields_ = yields; }

  /// A word for the trace (core/trace.h), where operations of one kind look alike.
  virtual const char* kind() const { return "collective"; }
  /// For messages and dumps: "ring all-reduce of 25,557,032 floats, step 5 of 14". From any thread.
  virtual std::string name() const = 0;
  /// For the message of a time-out: who is waited for.
  virtual std::string waits_for() const = 0;

 protected:
  bool yields() const { return yields_; }

 private:
  bool yields_ = false;
};

}  // namespace dcs3gd::comm
