#pragma once

#include <span>
#include <string>
#include <string_view>

#include "comm/schedule/schedule.h"

namespace dcs3gd::comm {

/// A way to sum over the ranks; configuration, reports and benchmarks read what there is from one table.
struct AlgorithmInfo {
  std::string_view name;  ///< in comm.algorithm
  std::string_view help;
  MakeSchedule make = nullptr;  ///< none: the native all-reduce of the world, MPI_Allreduce; fp32 wire only

  bool is_native() const { return make == nullptr; }
};

/// All of them, the default first.
std::span<const AlgorithmInfo> algorithms();
/// Throws Error{input} that names all when there is none of this name.
const AlgorithmInfo& find_algorithm(std::string_view name);
/// What is wrong with bf16 on the wire of a native all-reduce, and what to choose.
std::string bf16_needs_schedule();

}  // namespace dcs3gd::comm
