#pragma once

#include <string>

#include "app/config/configuration.h"
#include "app/job/threads.h"
#include "comm/communicator.h"

namespace dcs3gd::app {

/// --dry-run: builds everything on all ranks, prints it on rank 0's standard output, takes two steps on random images,
/// and compares what the run needs with what is there (app/report/preflight.h). Leaves no files. `command` is the
/// command line, for advice; `listing` that of count_classes().
void dry_run(const Configuration& configuration, comm::Communicator& communicator, const ThreadPlan& threads,
             const std::string& command, std::string listing);

}  // namespace dcs3gd::app
