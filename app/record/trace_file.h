#pragma once

#include <string>
#include <vector>

#include "app/rules/update_rule.h"
#include "comm/communicator.h"

namespace dcs3gd::app {

/// Collective: ends the recording of core/trace.h on all ranks, and rank 0 writes it to `path` in the Chrome trace
/// format, which Perfetto (ui.perfetto.dev) and chrome://tracing show: a process for each rank, a row for each of its
/// threads; in its "otherData" rank 0's prices of staleness. Clocks of different hosts agree as well as their system
/// time does. Throws Error{failure} on all ranks if the file cannot be written.
void write_trace(comm::Communicator& communicator, const std::string& path, const std::vector<TensorPrice>& prices);

}  // namespace dcs3gd::app
