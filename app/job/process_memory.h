#pragma once

#include <cstddef>

namespace dcs3gd::app {

/// What this process has in memory now.
std::size_t resident_bytes();
/// What processes like this one could still get: of the host's memory, of what its control group (a container, a job
/// of Slurm) leaves it, or of its own limits (ulimit -v and -d). The largest number if the system does not tell.
std::size_t available_bytes();

/// Throws Error{input} if its own limits leave this process too little for any network: libraries would end it without
/// a word.
void expect_room_for_libraries();

}  // namespace dcs3gd::app
