#pragma once

#include <memory>

namespace dcs3gd::comm {

class Job;
class ProgressThread;

/// What an all-reduce took, by the progress thread's clock.
struct AllReduceResult {
  double start_ms = 0;       ///< since some moment in the past
  double all_reduce_ms = 0;  ///< from its start to its completion
};

/// The right to the result of an all-reduce that runs in the progress thread. Until wait() has returned, its buffers
/// belong to the operation: they may be neither read nor written nor freed. Movable, not copyable; one thread at a
/// time. A ticket must not outlive its communicator.
class Ticket {
 public:
  Ticket(ProgressThread& progress, std::shared_ptr<Job> job);
  Ticket(Ticket&& other) noexcept;
  /// Settles the ticket that is replaced, as the destructor does.
  Ticket& operator=(Ticket&& other) noexcept;
  /// Blocks until the operation is over (at most the time-out), so that no buffer goes while it is used. Dropping a
  /// ticket that nobody waited for is a mistake, but for unwinding after an exception: it is logged as an error.
  ~Ticket();

  /// Blocks until the result is there. Throws what ended the operation, and Error{failure} when called twice.
  AllReduceResult wait();

 private:
  void settle() noexcept;

  ProgressThread* progress_;
  std::shared_ptr<Job> job_;  ///< empty after wait() or a move
};

}  // namespace dcs3gd::comm
