#include "comm/launcher.h"

#include <charconv>
#include <string_view>

namespace dcs3gd::comm {

std::optional<Launch> find_launch(const std::function<const char*(const char*)>& environment) {
  // Open MPI's mpirun; the mpiexec of MPICH and Intel MPI; srun (the batch script itself has no such variable).
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}) {
    const char* value = environment(variable);
    if (value == nullptr) continue;
    const std::string_view text = value;
    int ranks = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), ranks);
    if (error == std::errc() && end == text.data() + text.size()) return Launch{variable, ranks};
  }
  // Any other launcher that speaks PMIx names the rank only.
  if (environment("PMIX_RANK") != nullptr) return Launch{"PMIX_RANK", std::nullopt};
  return std::nullopt;
}

}  // namespace dcs3gd::comm
