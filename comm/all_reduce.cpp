#include "comm/all_reduce.h"

#include "comm/progress_thread.h"

namespace dcs3gd::comm {

Ticket AllReducePlan::start() {
  if (needs_no_other_rank_ && !progress_->failed()) {
    // Alone there is nothing to wait for, and waking a thread takes longer than scaling a small array.
    job_->run_here();
  } else {
    progress_->submit(job_);
  }
  return {*progress_, job_};
}

}  // namespace dcs3gd::comm
