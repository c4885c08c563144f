#pragma once

#include <cstddef>

#include "comm/options.h"

namespace dcs3gd::app {

/// Floats of the smallest array that is measured.
inline constexpr std::size_t kSmallestCommSize = 1024;

struct CommBenchOptions {
  comm::Options comm;                 ///< algorithm and wire are not looked at: all are measured
  std::size_t max_floats = 25557032;  ///< the largest array: ResNet-50
  double seconds_per_size = 5;        ///< decides on the number of repetitions
  bool json = false;                  ///< one object a line instead of a table
};

/// `dcs3gd-bench comm`: the time of an all-reduce by size, on the ranks of this job: each algorithm with
/// a schedule in fp32 and bf16, start to end as the caller sees it through the progress thread, beside the bare calls
/// of MPI (MPI_Allreduce with two buffers and in place, MPI_Iallreduce and waiting). The kinds take turns, so that a
/// disturbance hits all of them. A repetition counts as its slowest rank. Rank 0 prints; all ranks return the exit
/// code. Throws Error when a rank is lost.
int run_comm_bench(const CommBenchOptions& options);

}  // namespace dcs3gd::app
