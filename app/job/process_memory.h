#pragma once

#include <cstddef>

namespace dcs3gd::app {

/// What this process has in memory now.
std::size_t resident_bytes();
/// What processes like this one could still get: of the host's memory, or of what its control group (a container, a job
/// of Slurm) leaves it. The largest number if the system does not tell.
std::size_t available_bytes();

}  // namespace dcs3gd::app
