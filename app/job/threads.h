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

/// What is granted to a rank beside its cores.
struct ThreadLimits {
  std::optional<double> cores = {};  ///< of time, by a control group: for all ranks on the same cores together
  std::optional<int> team = {};      ///< OpenMP's own
};

/// `configured` threads; if none: OMP_NUM_THREADS if that is set (`omp_num_threads`), else the cores the rank may use,
/// hyper-threads not counted, divided by the ranks that share them; no more than the limits.
ThreadPlan plan_threads(std::optional<int> configured, const char* omp_num_threads,
                        const std::vector<comm::RankPlace>& places, int rank, const ThreadLimits& limits = {});

/// Computes with a team of this many threads from now on, on the calling thread. What is planned for a team must not
/// meet a smaller one: it would wait for ever. Throws Error{input}, with the reason, if the team is not to be had.
void use_team(int threads);

/// Plans by the environment and puts the plan to work: OpenMP's threads, and the progress thread's core. Collective.
ThreadPlan use_threads(std::optional<int> configured, comm::Communicator& communicator);

}  // namespace dcs3gd::app
