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

namespace {

constexpr std::array kAlgorithms{
    AlgorithmInfo{"ring", "round the ranks, between neighbours only", ring},
    AlgorithmInfo{"direct", "everyone with everyone, the fewest steps", direct},
    AlgorithmInfo{"mpi", "MPI_Allreduce, the reference; its bits may differ between ranks"},
};

}  // namespace

std::span<const AlgorithmInfo> algorithms() { return kAlgorithms; }

const AlgorithmInfo& find_algorithm(std::string_view name) {
  const auto* const found = std::ranges::find(kAlgorithms, name, &AlgorithmInfo::name);
  if (found != kAlgorithms.end()) return *found;
  std::vector<std::string_view> names(kAlgorithms.size());
  std::ranges::transform(kAlgorithms, names.begin(), &AlgorithmInfo::name);
  throw Error(ErrorKind::input, format("comm.algorithm: expected {}, found {}", fmt::join(names, " or "), name));
}

std::string bf16_needs_schedule() {
  std::vector<std::string_view> names;
  for (const AlgorithmInfo& algorithm : kAlgorithms) {
    if (!algorithm.is_native()) names.push_back(algorithm.name);
  }
  return format("bf16 needs comm.algorithm: {}; MPI_Allreduce sums fp32 only", fmt::join(names, " or "));
}

}  // namespace dcs3gd::comm
