#pragma once

#include <optional>
#include <vector>

#include "comm/communicator.h"
#include "comm/placement.h"

namespace dcs3gd::app {

/// How a rank uses its cores.
struct ThreadPlan {
  int compute = 1;  ///< OpenMP threads
  int spare = 0;    ///< cores of this rank's share that computing leaves idle
};

/// `configured` threads; if none: OMP_NUM_THREADS if that is set (`omp_num_threads`), else the cores the rank may use
/// divided by the ranks that share them.
ThreadPlan plan_threads(std::optional<int> configured, const char* omp_num_threads,
                        const std::vector<comm::RankPlace>& places, int rank);

/// Plans by the environment and puts the plan to work: OpenMP's threads, and the progress thread's core.
ThreadPlan use_threads(std::optional<int> configured, comm::Communicator& communicator);

}  // namespace dcs3gd::app
