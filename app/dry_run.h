#pragma once

#include "app/configuration.h"
#include "app/threads.h"
#include "comm/communicator.h"

namespace dcs3gd::app {

/// --dry-run: builds everything on all ranks, prints it on rank 0's standard output, and takes two steps on random
/// images. Opens no data and leaves no files.
void dry_run(const Configuration& configuration, comm::Communicator& communicator, const ThreadPlan& threads);

}  // namespace dcs3gd::app
