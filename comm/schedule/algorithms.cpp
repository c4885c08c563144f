#include "comm/schedule/algorithms.h"

#include <algorithm>
#include <array>
#include <vector>

#include "core/error.h"
#include "core/format.h"

namespace dcs3gd::comm {

// Each in the file of its name.
Schedule ring(const Topology& topology);
Schedule direct(const Topology& topology);
Schedule halving_doubling(const Topology& topology);
Schedule hierarchical(const Topology& topology);

namespace {

constexpr std::array kAlgorithms{
    AlgorithmInfo{"ring", "round the ranks, between neighbours only", false, ring},
    AlgorithmInfo{"direct", "everyone with everyone, the fewest steps", true, direct},
    AlgorithmInfo{"halving_doubling", "between partners, near and far, few steps for many ranks", false,
                  halving_doubling},
    AlgorithmInfo{"hierarchical", "first within each host, then between hosts, for several ranks a host", true,
                  hierarchical, false, true},
    AlgorithmInfo{kSharedMemory, "in each other's memory on one host, else as auto", true, nullptr, true},
    AlgorithmInfo{"mpi", "MPI_Allreduce, the reference; its bits may differ between ranks"},
};

/// Below, waiting for each other takes longer than sending. However many ranks there are, a bucket of gradients is not
/// few.
constexpr std::size_t kFewFloatsPerRank = 8192;
constexpr std::size_t kFewFloats = std::size_t{1} << 18;
/// Each hop of a ring rounds.
constexpr std::size_t kMostRanksOfBf16Ring = 16;

}  // namespace

std::span<const AlgorithmInfo> algorithms() { return kAlgorithms; }

const AlgorithmInfo& find_algorithm(std::string_view name) {
  const auto* const found = std::ranges::find(kAlgorithms, name, &AlgorithmInfo::name);
  if (found != kAlgorithms.end()) return *found;
  std::vector<std::string_view> names(kAlgorithms.size());
  std::ranges::transform(kAlgorithms, names.begin(), &AlgorithmInfo::name);
  throw Error(ErrorKind::input,
              format("comm.algorithm: expected {} or {}, found {}", fmt::join(names, " or "), kAutomatic, name));
}

bool may_share_memory(std::string_view name, Wire wire) {
  return name == kAutomatic ? wire == Wire::fp32 : find_algorithm(name).shares_memory;
}

bool is_native(std::string_view name) { return name != kAutomatic && find_algorithm(name).is_native(); }

const AlgorithmInfo& choose_algorithm(std::string_view name, const Topology& topology, std::size_t floats, Wire wire,
                                      bool shares_memory) {
  if (shares_memory && may_share_memory(name, wire)) return find_algorithm(kSharedMemory);
  if (name != kAutomatic && !find_algorithm(name).shares_memory) return find_algorithm(name);
  const auto ranks = static_cast<std::size_t>(topology.size());
  const bool rounds_twice = is_narrow(wire) && floats > 0;
  if (!rounds_twice && floats <= std::min(ranks * kFewFloatsPerRank, kFewFloats)) {
    return find_algorithm("halving_doubling");
  }
  const std::size_t hosts = topology.ranks_by_host().size();
  if (hosts > 1 && hosts < ranks) return find_algorithm("hierarchical");
  const bool ring_rounds_too_often = wire == Wire::bf16 && ranks > kMostRanksOfBf16Ring;
  return find_algorithm(rounds_twice || ring_rounds_too_often ? "direct" : "ring");
}

std::string clash_with_wire(std::string_view name, Wire wire) {
  if (name == kAutomatic || find_algorithm(name).carries(wire)) return "";
  std::vector<std::string_view> names;
  names.reserve(kAlgorithms.size());
  for (const AlgorithmInfo& algorithm : kAlgorithms) {
    if (algorithm.carries(wire)) names.push_back(algorithm.name);
  }
  names.push_back(kAutomatic);
  return format("{} needs comm.algorithm: {}; {}", info_of(wire).name, fmt::join(names, " or "),
                find_algorithm(name).is_native() ? "MPI_Allreduce sums fp32 only"
                                                 : format("{} would round a sum more than twice", name));
}

}  // namespace dcs3gd::comm
