#include "comm/all_reduce.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "comm/progress_thread.h"
#include "core/error.h"
#include "core/format.h"
#include "core/log.h"

namespace dcs3gd::comm {

Ticket::Ticket(ProgressThread& progress, std::shared_ptr<Job> job) : progress_(&progress), job_(std::move(job)) {}

Ticket& Ticket::operator=(Ticket&& other) noexcept {
  if (this != &other) {
    settle();
    progress_ = other.progress_;
    job_ = std::move(other.job_);
  }
  return *this;
}

Ticket::~Ticket() { settle(); }

AllReduceResult Ticket::wait() {
  if (!job_) throw Error(ErrorKind::failure, "an all-reduce was waited for twice");
  const std::shared_ptr<Job> job = std::move(job_);
  const JobTimes times = progress_->wait(*job);
  return {.start_ms = times.start_ms, .all_reduce_ms = times.duration_ms};
}

void Ticket::settle() noexcept {
  if (!job_) return;
  if (std::uncaught_exceptions() == 0) {
    log::error(format("{}: nobody waited for its result", job_->operation().name()));
  }
  try {
    wait();
  } catch (const std::exception& exception) {
    log::error(exception.what());
  }
}

Ticket AllReducePlan::start() {
  if (properties_.needs_no_other_rank && !progress_->failed()) {
    // Alone there is nothing to wait for, and waking a thread takes longer than scaling a small array. Of a host's
    // group other hosts have more ranks.
    progress_->count_started();
    job_->run_here();
  } else {
    progress_->submit(job_);
  }
  return {*progress_, job_};
}

void AllReducePlan::copy_back() {
  for (const ResultPart& part : properties_.parts) {
    float* const place = properties_.values.data() + part.first;
    if (part.values.data() != place) std::ranges::copy(part.values, place);
  }
}

}  // namespace dcs3gd::comm
