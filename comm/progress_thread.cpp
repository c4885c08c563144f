#include "comm/progress_thread.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <utility>

#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>

#include "comm/placement.h"
#include "core/error.h"
#include "core/format.h"
#include "core/helper_thread.h"
#include "core/stopwatch.h"
#include "core/trace.h"

namespace dcs3gd::comm {
namespace {

using std::chrono::seconds;

/// Longer than the time-out without a sign of life: the thread is stuck inside a call of MPI.
constexpr double kStuckGrace_s = 2;
/// How long abort() waits for the thread before it ends the process itself.
constexpr seconds kAbortPatience{3};

void prepare_thread() {
  begin_helper_thread("dcs3gd-comm");
  // Naps as short as asked for, not rounded up by the system's 50 µs.
  constexpr unsigned long kTimerSlack_ns = 1000;
  prctl(PR_SET_TIMERSLACK, kTimerSlack_ns);
}

}  // namespace

bool Job::done() const {
  const std::lock_guard lock(mutex_);
  return done_;
}

void Job::finish(double duration_ms) {
  const std::lock_guard lock(mutex_);
  done_ = true;
  duration_ms_ = duration_ms;
  changed_.notify_all();
}

void Job::fail(std::exception_ptr error) {
  const std::lock_guard lock(mutex_);
  done_ = true;
  error_ = std::move(error);
  changed_.notify_all();
}

bool Job::wait_for(double limit_s) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::duration<double>(limit_s), [&] { return done_; });
}

double Job::result() const {
  const std::lock_guard lock(mutex_);
  if (error_) std::rethrow_exception(error_);
  return duration_ms_;
}

ProgressThread::ProgressThread(OpenTransport open, double timeout_s)
    : timeout_(std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(timeout_s))),
      thread_([this, open = std::move(open)] { run(open); }) {
  std::unique_lock lock(mutex_);
  wake_.wait(lock, [&] { return transport_ != nullptr || open_error_ != nullptr; });
  if (open_error_) {
    lock.unlock();
    thread_.join();
    std::rethrow_exception(open_error_);
  }
}

ProgressThread::~ProgressThread() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

std::shared_ptr<Job> ProgressThread::submit(std::unique_ptr<Operation> operation) {
  auto job = std::make_shared<Job>(std::move(operation));
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(job);
  }
  wake_.notify_all();
  return job;
}

double ProgressThread::wait(const Job& job) const {
  constexpr double kLook_s = 1;
  while (!job.wait_for(kLook_s)) {
    const Clock::time_point alive{Clock::duration(last_sign_of_life_)};
    const std::chrono::duration<double> silence = Clock::now() - alive;
    const std::chrono::duration<double> timeout = timeout_;
    const std::string stuck = current_operation();
    if (!stuck.empty() && silence.count() > timeout.count() + kStuckGrace_s) {
      throw Error(ErrorKind::failure, format("{}: no sign of life for {:.0f} s, it hangs inside MPI: another rank has "
                                             "stopped or was never there",
                                             stuck, silence.count()));
    }
  }
  return job.result();
}

void ProgressThread::abort(int exit_code, const std::string& reason) {
  std::unique_lock lock(mutex_);
  if (!abort_) abort_ = Abort{exit_code, reason};
  abort_requested_ = true;
  failed_ = true;
  wake_.notify_all();
  if (!abort_done_.wait_for(lock, kAbortPatience, [&] { return aborted_; })) std::_Exit(exit_code);
}

std::string ProgressThread::current_operation() const {
  const std::lock_guard lock(mutex_);
  return current_ ? current_->operation().name() : "";
}

bool ProgressThread::pin(int core) {
  if (core < 0 || core >= CPU_SETSIZE) return false;
  cpu_set_t cores;
  CPU_ZERO(&cores);
  CPU_SET(static_cast<std::size_t>(core), &cores);
  return pthread_setaffinity_np(thread_.native_handle(), sizeof(cores), &cores) == 0;
}

void ProgressThread::run(const OpenTransport& open) {
  prepare_thread();
  std::unique_ptr<Transport> transport;
  std::exception_ptr error;
  try {
    transport = open();
  } catch (...) {
    error = std::current_exception();
  }
  {
    const std::lock_guard lock(mutex_);
    transport_ = std::move(transport);
    open_error_ = error;
  }
  wake_.notify_all();
  if (error) return;
  serve();
  transport_.reset();
}

void ProgressThread::serve() {
  for (;;) {
    std::unique_lock lock(mutex_);
    current_.reset();
    wake_.wait(lock, [&] { return !queue_.empty() || stopping_ || (abort_ && !aborted_); });
    if (abort_ && !aborted_) {
      lock.unlock();
      break_world(std::make_exception_ptr(carry_out_abort()));
      continue;
    }
    if (queue_.empty()) return;
    current_ = std::move(queue_.front());
    queue_.pop_front();
    const std::shared_ptr<Job> job = current_;
    lock.unlock();
    execute(job);
  }
}

void ProgressThread::execute(const std::shared_ptr<Job>& job) {
  if (error_) return job->fail(error_);
  try {
    job->finish(drive(job->operation()));
  } catch (...) {
    broken_job_ = job;
    break_world(std::current_exception());
    job->fail(error_);
  }
}

double ProgressThread::drive(Operation& operation) {
  const trace::Span span("communication", operation.kind());
  const Stopwatch stopwatch;
  Clock::time_point last_move = Clock::now();
  bool waited = false;  // since the last move
  last_sign_of_life_ = last_move.time_since_epoch().count();
  operation.start();
  for (;;) {
    if (abort_requested_) throw carry_out_abort();
    const Step step = operation.step();
    if (step == Step::done) return stopwatch.elapsed_ms();
    const Clock::time_point now = Clock::now();
    last_sign_of_life_ = now.time_since_epoch().count();
    if (step == Step::moved) {
      if (waited) patience_.learn(now - last_move);
      last_move = now;
      waited = false;
    } else if (now - last_move > timeout_) {
      throw Error(
          ErrorKind::failure,
          format("rank {} on {}: {}: no progress for {:.1f} s: {}", transport_->rank(), find_own_place().host,
                 operation.name(), std::chrono::duration<double>(now - last_move).count(), operation.waits_for()));
    } else {
      waited = true;
      patience_.pause(now - last_move);
    }
  }
}

void ProgressThread::break_world(std::exception_ptr error) {
  if (!error_) error_ = std::move(error);
  failed_ = true;
}

Error ProgressThread::carry_out_abort() {
  std::unique_lock lock(mutex_);
  const Abort abort = *abort_;
  lock.unlock();
  transport_->abort(abort.exit_code, abort.reason);
  lock.lock();
  aborted_ = true;
  abort_done_.notify_all();
  return Error(ErrorKind::failure, format("the job was ended: {}", abort.reason));
}

}  // namespace dcs3gd::comm
