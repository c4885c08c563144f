#pragma once

#include <memory>

#include "comm/launcher.h"
#include "comm/transport.h"

namespace dcs3gd::comm {

/// Starts MPI on the calling thread, which must be the only one that uses the transport and the one that destroys it;
/// that ends MPI, so a process can do this once. Throws Error{input} when MPI does not know the launcher: every process
/// would be rank 0 of a world of its own. Throws Error{failure} for other failures of MPI.
std::unique_ptr<Transport> open_mpi_transport(const Launch& launch);

}  // namespace dcs3gd::comm
