#pragma once

#include <functional>
#include <optional>
#include <string>

namespace dcs3gd::comm {

/// What the environment says about how this process was started.
struct Launch {
  std::string variable;      ///< the environment variable that says so
  std::optional<int> ranks;  ///< processes the launcher started; none if it does not say

  bool is_open_mpi() const { return variable == "OMPI_COMM_WORLD_SIZE"; }
};

/// Looks for the marks of mpirun (Open MPI, MPICH, Intel) and srun. None: the process was started by hand and is alone.
/// `environment` gives the value of a variable or nullptr, as std::getenv does.
std::optional<Launch> find_launch(const std::function<const char*(const char*)>& environment);

}  // namespace dcs3gd::comm
