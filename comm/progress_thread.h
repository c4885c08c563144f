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
#include <vector>

#include "comm/backoff.h"
#include "comm/operation.h"
#include "comm/transport.h"
#include "core/error.h"
#include "core/reminder.h"
#include "core/trace.h"

namespace dcs3gd::comm {

/// When an operation ran, by the steady clock.
struct JobTimes {
  double start_ms = 0;
  double duration_ms = 0;
};

/// An operation on its way through the progress thread, shared with whoever waits for it. Once its result has been
/// taken it may be submitted again. Thread-safe.
class Job {
 public:
  explicit Job(std::unique_ptr<Operation> operation) : operation_(std::move(operation)) {}

  Operation& operation() const { return *operation_; }
  /// From here to take_result() the job is in flight; throws Error{failure} if it is already.
  void begin();
  /// Does all of an operation that needs no other rank, on the calling thread, as if it had been submitted.
  void run_here();
  /// The end of the operation: when it ran, or what ended it.
  void finish(const JobTimes& times);
  void fail(std::exception_ptr error);
  /// Waits up to `limit_s` seconds for the end; whether it has come.
  bool wait_for(double limit_s);
  /// Throws what ended the operation. Only after the end, once.
  JobTimes take_result();

 private:
  friend class ProgressThread;
  enum class State { idle, in_flight, ended };

  const std::unique_ptr<Operation> operation_;
  // Only the progress thread, but for the tag, which is set before it sees the job.
  int tag_ = 0;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point last_move_;
  std::optional<trace::Span> span_;

  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  State state_ = State::idle;
  JobTimes times_;
  std::exception_ptr error_;
};

/// The one thread of a rank that talks to its transport, hence to MPI: it opens it, drives all operations at once,
/// started in the order in which they were submitted, the most urgent first, and closes it. Without work it sleeps.
/// After an error nothing more is sent: all later operations fail with the same error. Thread-safe.
class ProgressThread {
 public:
  using OpenTransport = std::function<std::unique_ptr<Transport>()>;

  /// Returns when the thread is up and its transport open; throws what `open` throws. An operation that stands still
  /// for `timeout_s` fails; time in which this process does not run, as while a job is suspended, does not count. A
  /// transport that opens or closes for longer (MPI_Init waits for all processes) ends this process with a message.
  ProgressThread(OpenTransport open, double timeout_s);
  /// Finishes what was submitted, closes the transport and joins.
  ~ProgressThread();

  /// Other threads may ask it for rank() and size() and hand it to operations.
  Transport& transport() { return *transport_; }
  /// Throws Error{failure} if the job is in flight already.
  void submit(const std::shared_ptr<Job>& job);
  /// Where this rank needs no other for what some others submit: all ranks count what they start.
  void count_started();
  /// Waits for the end of a job and takes its result. Throws what ended it, also when the thread itself is stuck in a
  /// call of MPI.
  JobTimes wait(Job& job) const;
  bool failed() const { return failed_; }
  /// Whether it failed because ranks are gone, and the world can go on without them. Once whoever waited has thrown.
  bool has_lost_ranks() const { return has_lost_ranks_; }
  /// Then: a new world of the ranks that are left, as if nothing had failed; all operations of before must be gone.
  /// Collective among them. Throws Error{failure} if that fails; if they do not all come in time, ends this process
  /// with a message.
  void regroup();
  /// Ends the whole world (Transport::abort). If the thread is stuck in a call of MPI, ends this process, and with it,
  /// by way of its launcher, the others.
  void abort(int exit_code, const std::string& reason);
  /// How it waits depends on whether the ranks are on several machines.
  void set_between_hosts(bool between_hosts) { backoff_.set_between_hosts(between_hosts); }
  /// Raises the time-out to some times what a rank is known to compute between two operations.
  void allow_for(double compute_s);
  /// Confines the thread to one core; false if the system refuses.
  bool pin(int core);

 private:
  using Clock = std::chrono::steady_clock;
  using Jobs = std::deque<std::shared_ptr<Job>>;
  struct Abort {
    int exit_code;
    std::string reason;
  };

  double timeout_s() const;
  template <typename WaitForALook>
  bool shows_life_until(const WaitForALook& is_done) const;
  void run(const OpenTransport& open);
  void serve();
  bool take_submitted();
  int take_tag();  ///< with the mutex held
  bool may_start(const Operation& operation) const;
  void forgive_absence();
  void start_waiting();
  void step_running();
  void check_time_out(const Job& job, Clock::time_point now) const;
  void warn_of_stall(Clock::time_point now);
  std::string describe(const Job& job) const;
  void break_world(std::exception_ptr error);
  void carry_out_regroup();
  /// Returns what operations fail with from now on; not at all where the transport ends the process.
  Error carry_out_abort();

  const double configured_timeout_s_;
  std::atomic<double> longest_compute_s_ = 0;
  std::unique_ptr<Transport> transport_;  ///< the same from construction to the end of the thread

  Backoff backoff_;
  // Only the progress thread.
  Jobs waiting_;                               ///< to be started, in order
  std::vector<std::shared_ptr<Job>> running_;  ///< the most urgent first, else in the order of their start
  Clock::time_point last_move_;                ///< of any of them
  Clock::time_point last_poll_;                ///< when this thread was last seen to run
  bool paused_ = false;                        ///< since the last move
  const Job* stalled_ = nullptr;               ///< that was told of, until it moves
  Reminder stall_reminder_;
  std::exception_ptr error_;                       ///< what broke the world
  std::vector<std::shared_ptr<Job>> broken_jobs_;  ///< messages into their memory may still be in flight

  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable abort_done_;
  std::condition_variable regroup_done_;
  // Guarded by mutex_.
  Jobs submitted_;
  int next_tag_ = 0;
  std::optional<Abort> abort_;  ///< asked for
  bool aborted_ = false;        ///< carried out
  enum class Regroup { none, asked_for, ended } regroup_ = Regroup::none;
  bool stopping_ = false;
  bool closed_ = false;
  std::exception_ptr open_error_;

  std::atomic<bool> has_news_ = false;  ///< something was submitted or asked for: cheap to look at
  std::atomic<bool> failed_ = false;
  std::atomic<bool> has_lost_ranks_ = false;
  std::atomic<Clock::rep> last_sign_of_life_ = 0;

  std::thread thread_;  ///< last: it uses all of the above
};

}  // namespace dcs3gd::comm
