#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "comm/operation.h"
#include "comm/patience.h"
#include "comm/transport.h"
#include "core/error.h"

namespace dcs3gd::comm {

/// An operation on its way through the progress thread, shared with whoever waits for it. Thread-safe.
class Job {
 public:
  explicit Job(std::unique_ptr<Operation> operation) : operation_(std::move(operation)) {}

  Operation& operation() const { return *operation_; }
  bool done() const;
  /// The end of the operation: how long it took, or what ended it.
  void finish(double duration_ms);
  void fail(std::exception_ptr error);
  /// Waits up to `limit_s` seconds for the end; whether it has come.
  bool wait_for(double limit_s) const;
  /// The duration in milliseconds; throws what ended the operation. Only when done.
  double result() const;

 private:
  const std::unique_ptr<Operation> operation_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  // Guarded by mutex_.
  bool done_ = false;
  double duration_ms_ = 0;
  std::exception_ptr error_;
};

/// The one thread of a rank that talks to its transport, hence to MPI: it opens it, drives one operation after the
/// other in the order they were submitted, and closes it. Without work it sleeps. After an error nothing more is sent:
/// all later operations fail with the same error. Thread-safe.
class ProgressThread {
 public:
  using OpenTransport = std::function<std::unique_ptr<Transport>()>;

  /// Returns when the thread is up and its transport open; throws what `open` throws.
  ProgressThread(OpenTransport open, double timeout_s);
  /// Finishes what was submitted, closes the transport and joins.
  ~ProgressThread();

  /// Other threads may ask it for rank() and size() and hand it to operations.
  Transport& transport() { return *transport_; }
  std::shared_ptr<Job> submit(std::unique_ptr<Operation> operation);
  /// Waits for the end of a job; its duration in milliseconds. Throws what ended it, also when the thread itself is
  /// stuck in a call of MPI.
  double wait(const Job& job) const;
  bool failed() const { return failed_; }
  /// Ends the whole world (Transport::abort). If the thread is stuck in a call of MPI, ends this process, and with it,
  /// by way of its launcher, the others.
  void abort(int exit_code, const std::string& reason);
  /// The name of the operation at work, empty if there is none.
  std::string current_operation() const;
  /// How it waits depends on whether the ranks are on several machines.
  void set_between_hosts(bool between_hosts) { patience_.set_between_hosts(between_hosts); }
  /// Confines the thread to one core; false if the system refuses.
  bool pin(int core);

 private:
  using Clock = std::chrono::steady_clock;
  struct Abort {
    int exit_code;
    std::string reason;
  };

  void run(const OpenTransport& open);
  void serve();
  void execute(const std::shared_ptr<Job>& job);
  double drive(Operation& operation);
  void break_world(std::exception_ptr error);
  /// Returns what operations fail with from now on; not at all where the transport ends the process.
  Error carry_out_abort();

  const Clock::duration timeout_;
  std::unique_ptr<Transport> transport_;  ///< constant from construction to the end of the thread

  Patience patience_;
  // Only the progress thread.
  std::exception_ptr error_;         ///< what broke the world
  std::shared_ptr<Job> broken_job_;  ///< messages into its memory may still be under way

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable abort_done_;
  // Guarded by mutex_.
  std::deque<std::shared_ptr<Job>> queue_;
  std::shared_ptr<Job> current_;
  std::optional<Abort> abort_;  ///< asked for
  bool aborted_ = false;        ///< carried out
  bool stopping_ = false;
  std::exception_ptr open_error_;

  std::atomic<bool> abort_requested_ = false;  ///< abort_ is set: cheap to ask between two steps
  std::atomic<bool> failed_ = false;
  std::atomic<Clock::rep> last_sign_of_life_ = 0;

  std::thread thread_;  ///< last: it uses all of the above
};

}  // namespace dcs3gd::comm
