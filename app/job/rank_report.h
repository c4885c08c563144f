#pragma once

#include <string>
#include <vector>

#include "comm/communicator.h"

/// Where the ranks of a run compute, in words, and what is wrong with it.
namespace dcs3gd::app {

/// A rank's share of its host.
struct RankUse {
  comm::RankPlace place;
  int threads = 1;           ///< that compute
  int host_cores = 1;        ///< of the whole host, also those that the rank may not use
  double granted_cores = 0;  ///< worth of time, by a control group; 0: no limit
};

/// Collective: every rank's, by rank.
std::vector<RankUse> gather_rank_uses(comm::Communicator& communicator, int threads);

/// Lines that grow with the number of hosts: of many the first, and how many more there are.
std::vector<std::string> shortened(std::vector<std::string> lines);

/// "0-3,8": ascending numbers with runs as ranges.
std::string format_ranges(const std::vector<int>& numbers);

/// A line for each group of neighbouring ranks with the same place and threads, such as
/// "ranks 0-3 on node1: 4 threads each, cores 0-15 shared".
std::vector<std::string> describe_ranks(const std::vector<RankUse>& ranks);

/// What keeps the ranks from computing at full speed: more threads than cores, and hosts whose cores the launcher keeps
/// from the ranks (Open MPI binds each of up to two ranks to one core). The last line is the remedy: the corrected
/// mpirun line of `command`. Empty if nothing is wrong. `by_mpirun`: Open MPI's mpirun has started the job.
std::vector<std::string> placement_warnings(const std::vector<RankUse>& ranks, const std::string& command,
                                            bool by_mpirun);

}  // namespace dcs3gd::app
