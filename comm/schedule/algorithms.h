#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "comm/schedule/schedule.h"
#include "comm/schedule/wire.h"

namespace dcs3gd::comm {

/// A way to sum over the ranks; configuration, reports and benchmarks read what there is from one table.
struct AlgorithmInfo {
  std::string_view name;  ///< in comm.algorithm
  std::string_view help;
  bool rounds_twice = false;    ///< at most, however many ranks there are: each summand once, and each sum
  MakeSchedule make = nullptr;  ///< none: it is not made of messages
  /// The ranks of a host read each other's memory; where they cannot, kAutomatic chooses among the others.
  bool shares_memory = false;
  /// Within each host its ranks read each other's memory, where they can and hosts have equally many; else they send.
  bool shares_within_hosts = false;

  bool has_schedule() const { return make != nullptr; }
  /// The native all-reduce of the world, MPI_Allreduce; fp32 wire only.
  bool is_native() const { return !has_schedule() && !shares_memory; }
  bool carries(Wire wire) const { return wire == Wire::fp32 || (!is_native() && (rounds_twice || !is_narrow(wire))); }
};

/// All of them, the default first.
std::span<const AlgorithmInfo> algorithms();
/// Throws Error{input} that names all when there is none of this name.
const AlgorithmInfo& find_algorithm(std::string_view name);

/// The one that shares memory.
inline constexpr std::string_view kSharedMemory = "shared";
/// In comm.algorithm, one of those above for each array, by README.md's table.
inline constexpr std::string_view kAutomatic = "auto";
/// Whether a name in comm.algorithm is the native all-reduce's. Throws as find_algorithm().
bool is_native(std::string_view name);
/// Whether what it stands for on this wire may be kSharedMemory, whose sums no wire rounds: by itself kAutomatic takes
/// it only where nothing narrower was asked for.
bool may_share_memory(std::string_view name, Wire wire);
/// What a name in comm.algorithm stands for where these ranks sum so many floats on this wire, and can read each
/// other's memory or not. The same on all ranks, and again in a run that is continued where all this is as before.
const AlgorithmInfo& choose_algorithm(std::string_view name, const Topology& topology, std::size_t floats, Wire wire,
                                      bool shares_memory);

/// What travels by a chosen algorithm where this wire was asked for: nothing is narrowed in shared memory.
inline Wire wire_by(std::string_view algorithm, Wire asked_for) {
  return algorithm == kSharedMemory ? Wire::fp32 : asked_for;
}

/// What is wrong with a name in comm.algorithm on this wire, and what to choose; empty if nothing is.
std::string clash_with_wire(std::string_view name, Wire wire);

}  // namespace dcs3gd::comm
