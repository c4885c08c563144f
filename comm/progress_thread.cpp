#include "comm/progress_thread.h"

#include <algorithm>
#include <bit>
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
#include "core/log.h"

namespace dcs3gd::comm {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::seconds;

/// What "never" comes to: int64 nanoseconds hold it.
constexpr double kLongestTimeout_s = 1e9;
/// A rank may compute between two operations for as many times as long as another was seen to.
constexpr double kComputeFactor = 5;
/// Longer than the time-out without a sign of life: the thread is stuck inside a call of MPI.
constexpr double kStuckGrace_s = 2;
/// How long abort() waits for the thread before it ends the process itself.
constexpr seconds kAbortPatience{3};
/// Polls are milliseconds apart, also on a busy machine. Where they are not, this process did not run.
constexpr seconds kLongestAbsence{1};
/// A stall is told of after this long, or a third of the time-out.
constexpr double kWarnAfter_s = 30;

double milliseconds(Clock::duration time) { return std::chrono::duration<double, std::milli>(time).count(); }

double to_seconds(Clock::duration time) { return std::chrono::duration<double>(time).count(); }

void prepare_thread() {
  begin_helper_thread("dcs3gd-comm");
  // Naps as short as asked for, not rounded up by the system's 50 µs.
  constexpr unsigned long kTimerSlack_ns = 1000;
  prctl(PR_SET_TIMERSLACK, kTimerSlack_ns);
}

/// When this thread is stuck in MPI nobody can be told to end the job but its launcher, by the end of this process.
[[noreturn]] void give_up(const std::string& reason) {
  log::error(format("{}: {}; see what the launcher says of the others (comm.timeout_s is the limit)",
                    find_own_place().host, reason));
  std::_Exit(EXIT_FAILURE);
}

}  // namespace

void Job::begin() {
  const std::lock_guard lock(mutex_);
  if (state_ != State::idle) {
    throw Error(ErrorKind::failure,
                format("{}: started again before the ticket of its last start was waited for", operation_->name()));
  }
  state_ = State::in_flight;
}

void Job::run_here() {
  begin();
  const Clock::time_point start = Clock::now();
  operation_->start(0);
  while (operation_->step() != Step::done) {
  }
  finish({.start_ms = milliseconds(start.time_since_epoch()), .duration_ms = 0});
}

void Job::finish(const JobTimes& times) {
  const std::lock_guard lock(mutex_);
  state_ = State::ended;
  times_ = times;
  changed_.notify_all();
}

void Job::fail(std::exception_ptr error) {
  const std::lock_guard lock(mutex_);
  state_ = State::ended;
  error_ = std::move(error);
  changed_.notify_all();
}

bool Job::wait_for(double limit_s) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::duration<double>(limit_s), [&] { return state_ == State::ended; });
}

JobTimes Job::take_result() {
  const std::lock_guard lock(mutex_);
  state_ = State::idle;
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  return times_;
}

ProgressThread::ProgressThread(OpenTransport open, double timeout_s)
    : configured_timeout_s_(std::min(timeout_s, kLongestTimeout_s)),
      thread_([this, open = std::move(open)] { run(open); }) {
  std::unique_lock lock(mutex_);
  const auto is_open = [&] { return transport_ != nullptr || open_error_ != nullptr; };
  if (!shows_life_until([&](seconds look) { return wake_.wait_for(lock, look, is_open); })) {
    give_up(
        format("MPI has not started after {:.0f} s: a process of this job is missing, has ended, or hangs before "
               "MPI_Init",
               timeout_s));
  }
  if (open_error_) {
    lock.unlock();
    thread_.join();
    std::rethrow_exception(open_error_);
  }
}

ProgressThread::~ProgressThread() {
  std::unique_lock lock(mutex_);
  stopping_ = true;
  wake_.notify_all();
  if (!shows_life_until([&](seconds look) { return wake_.wait_for(lock, look, [&] { return closed_; }); })) {
    give_up("all work is done, but MPI does not close: another process hangs in MPI_Finalize or before it");
  }
  lock.unlock();
  thread_.join();
}

int ProgressThread::take_tag() { return std::exchange(next_tag_, (next_tag_ + 1) % kTagCount); }

void ProgressThread::count_started() {
  const std::lock_guard lock(mutex_);
  take_tag();
}

void ProgressThread::submit(const std::shared_ptr<Job>& job) {
  job->begin();
  {
    const std::lock_guard lock(mutex_);
    job->tag_ = take_tag();
    submitted_.push_back(job);
    has_news_ = true;
  }
  wake_.notify_all();
}

JobTimes ProgressThread::wait(Job& job) const {
  if (!shows_life_until([&](seconds look) { return job.wait_for(std::chrono::duration<double>(look).count()); })) {
    throw Error(ErrorKind::failure, format("{}: no sign of life for {:.0f} s, it hangs inside MPI: another rank has "
                                           "stopped or was never there",
                                           job.operation().name(), timeout_s() + kStuckGrace_s));
  }
  return job.take_result();
}

void ProgressThread::allow_for(double compute_s) {
  longest_compute_s_ = std::max<double>(longest_compute_s_, compute_s);
}

double ProgressThread::timeout_s() const {
  return std::max(configured_timeout_s_, kComputeFactor * longest_compute_s_);
}

/// Calls is_done(how long to wait for it) until it says true; false if the thread shows no sign of life for the
/// time-out. Counts looks, not time: while the process is suspended there are none.
template <typename WaitForALook>
bool ProgressThread::shows_life_until(const WaitForALook& is_done) const {
  constexpr seconds kLook{1};
  Clock::rep last_sign = last_sign_of_life_;
  for (seconds silence{0}; !is_done(kLook);) {
    silence = last_sign_of_life_ == last_sign ? silence + kLook : seconds{0};
    last_sign = last_sign_of_life_;
    if (static_cast<double>(silence.count()) > timeout_s() + kStuckGrace_s) return false;
  }
  return true;
}

void ProgressThread::abort(int exit_code, const std::string& reason) {
  std::unique_lock lock(mutex_);
  if (!abort_) abort_ = Abort{exit_code, reason};
  has_news_ = true;
  failed_ = true;
  wake_.notify_all();
  if (!abort_done_.wait_for(lock, kAbortPatience, [&] { return aborted_; })) std::_Exit(exit_code);
}

void ProgressThread::regroup() {
  std::unique_lock lock(mutex_);
  regroup_ = Regroup::asked_for;
  has_news_ = true;
  wake_.notify_all();
  const auto is_over = [&] { return regroup_ == Regroup::ended; };
  if (!shows_life_until([&](seconds look) { return regroup_done_.wait_for(lock, look, is_over); })) {
    give_up("the ranks that are left do not all meet again after the loss of others");
  }
  regroup_ = Regroup::none;
  if (error_) std::rethrow_exception(error_);
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
  const std::lock_guard lock(mutex_);
  closed_ = true;
  wake_.notify_all();
}

void ProgressThread::serve() {
  while (take_submitted()) {
    try {
      forgive_absence();
      start_waiting();
      step_running();
    } catch (...) {
      break_world(std::current_exception());
    }
  }
}

/// Sleeps while there is nothing to do. Returns false when all is done and the thread is to end.
bool ProgressThread::take_submitted() {
  const bool idle = running_.empty() && waiting_.empty();
  if (!idle && !has_news_) return true;
  std::unique_lock lock(mutex_);
  if (idle) wake_.wait(lock, [&] { return has_news_ || stopping_; });
  has_news_ = false;
  if (regroup_ == Regroup::asked_for) {
    lock.unlock();  // who asked for it watches for how long
    carry_out_regroup();
    lock.lock();
  }
  waiting_.insert(waiting_.end(), submitted_.begin(), submitted_.end());
  submitted_.clear();
  if (abort_ && !aborted_) {
    lock.unlock();
    break_world(std::make_exception_ptr(carry_out_abort()));
    return true;
  }
  return !(stopping_ && running_.empty() && waiting_.empty());
}

/// An operation that runs alone waits until those before it are done, and those after it wait for it. All ranks keep
/// this order, so the oldest operation that is not done everywhere waits nowhere.
bool ProgressThread::may_start(const Operation& operation) const {
  return running_.empty() || !(operation.runs_alone() || running_.front()->operation().runs_alone());
}

/// Time in which this process did not run (a suspended job, a host that stood still) is nobody's silence.
void ProgressThread::forgive_absence() {
  const Clock::time_point now = Clock::now();
  const Clock::duration absence = now - std::exchange(last_poll_, now);
  if (absence < kLongestAbsence) return;
  last_move_ += absence;
  for (const std::shared_ptr<Job>& job : running_) job->last_move_ += absence;
}

void ProgressThread::start_waiting() {
  while (!waiting_.empty() && may_start(waiting_.front()->operation())) {
    const std::shared_ptr<Job> job = std::move(waiting_.front());
    waiting_.pop_front();
    if (error_) {
      job->fail(error_);
      continue;
    }
    running_.insert(
        std::ranges::upper_bound(running_, job->operation().urgency(), {},
                                 [](const std::shared_ptr<Job>& other) { return other->operation().urgency(); }),
        job);
    job->span_.emplace("communication", job->operation().kind());
    job->start_ = job->last_move_ = last_move_ = Clock::now();
    paused_ = false;
    last_sign_of_life_ = last_move_.time_since_epoch().count();
    job->operation().start(job->tag_);
  }
}

/// One step of each operation, then a pause if none has moved.
void ProgressThread::step_running() {
  bool moved = false;
  Clock::time_point now;
  for (auto running = running_.begin(); running != running_.end();) {
    Job& job = **running;
    job.operation().set_yields(job.operation().urgency() > running_.front()->operation().urgency());
    const Step step = job.operation().step();
    forgive_absence();  // also within a step
    now = last_poll_;
    last_sign_of_life_ = now.time_since_epoch().count();
    if (step == Step::waiting) {
      check_time_out(job, now);
      ++running;
      continue;
    }
    moved = true;
    const Clock::duration stood_still = now - std::exchange(job.last_move_, now);
    if (stalled_ == &job) {
      stalled_ = nullptr;
      stall_reminder_ = {};
      log::warn(format("rank {}: communication goes on after {:.0f} s", transport_->rank(), to_seconds(stood_still)));
    }
    if (step == Step::moved) {
      ++running;
      continue;
    }
    // Whoever waits may start the job again as soon as it has finished.
    const std::shared_ptr<Job> done = std::move(*running);
    running = running_.erase(running);
    done->span_.reset();
    done->finish(
        {.start_ms = milliseconds(done->start_.time_since_epoch()), .duration_ms = milliseconds(now - done->start_)});
  }
  const Clock::duration waited = now - last_move_;
  if (moved) {
    if (paused_ && !running_.empty()) backoff_.learn(waited);
    last_move_ = now;
    paused_ = false;
  } else if (!running_.empty()) {
    warn_of_stall(now);
    paused_ = true;
    backoff_.pause(waited);
  }
}

/// When one rank of thousands is lost, all others find out in the same second, and one line is enough: the first
/// rank's, or, in time to say more, that of one of the next.
void ProgressThread::check_time_out(const Job& job, Clock::time_point now) const {
  const double turn_s = std::min(1.0, timeout_s() / 4);
  const int turns = static_cast<int>(std::bit_width(static_cast<unsigned>(transport_->rank())));
  const double waited_s = to_seconds(now - job.last_move_);
  if (waited_s <= timeout_s() + turns * turn_s) return;
  throw Error(ErrorKind::failure,
              format("{}: no progress for {:.1f} s: {}", describe(job), waited_s, job.operation().waits_for()));
}

/// The first rank and the last tell of it, most likely on two hosts: one of them is not the one that is waited for.
void ProgressThread::warn_of_stall(Clock::time_point now) {
  const int rank = transport_->rank();
  if (rank != 0 && rank + 1 != transport_->size()) return;
  const Job& job = stalled_ != nullptr ? *stalled_ : *running_.front();
  const double waited_s = to_seconds(now - job.last_move_);
  if (!stall_reminder_.is_due(waited_s, std::min(kWarnAfter_s, timeout_s() / 3))) return;
  stalled_ = &job;
  log::warn(format("{}: no progress for {:.0f} s: {}; the job ends after {:.0f} s", describe(job), waited_s,
                   job.operation().waits_for(), timeout_s()));
}

std::string ProgressThread::describe(const Job& job) const {
  return format("rank {} on {}: {}", transport_->rank(), find_own_place().host, job.operation().name());
}

void ProgressThread::break_world(std::exception_ptr error) {
  if (!error_) error_ = std::move(error);
  failed_ = true;
  has_lost_ranks_ = transport_->has_lost_ranks();  // before anyone who waits goes on
  for (const std::shared_ptr<Job>& job : running_) {
    job->span_.reset();
    broken_jobs_.push_back(job);
    job->fail(error_);
  }
  running_.clear();
  stalled_ = nullptr;
}

void ProgressThread::carry_out_regroup() {
  std::exception_ptr error;
  try {
    transport_->regroup();
  } catch (...) {
    error = std::current_exception();
  }
  const bool has_lost_more = error && transport_->has_lost_ranks();
  if (!error) broken_jobs_.clear();
  stall_reminder_ = {};
  last_move_ = last_poll_ = Clock::now();
  last_sign_of_life_ = last_move_.time_since_epoch().count();
  const std::lock_guard lock(mutex_);
  next_tag_ = 0;
  error_ = error;
  failed_ = error != nullptr;
  has_lost_ranks_ = has_lost_more;
  regroup_ = Regroup::ended;
  regroup_done_.notify_all();
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
