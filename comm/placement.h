#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace dcs3gd::comm {

/// Where a rank runs.
struct RankPlace {
  std::string host;
  std::vector<int> cores;  ///< those it may use, as the system numbers them, ascending; hyper-threads count as cores
  int physical_cores = 0;  ///< of them, hyper-threads of one core counted once; 0: not known
  int sockets = 1;         ///< they lie on

  /// Threads beyond these share the arithmetic of a core.
  int computing_cores() const { return physical_cores > 0 ? physical_cores : static_cast<int>(cores.size()); }
  bool operator==(const RankPlace&) const = default;
};

/// This process's own place, by the system. `root` is where /sys is found.
RankPlace find_own_place(const std::string& root = "");

/// A place as a blob, to be gathered.
std::string pack(const RankPlace& place);
RankPlace unpack_place(std::string_view blob);

/// The ranks, in order and with `rank` among them, that compete with it for cores: same host, a core in common.
std::vector<int> ranks_on_same_cores(const std::vector<RankPlace>& places, int rank);

/// The same for every rank, looking at the ranks of each host only.
std::vector<std::vector<int>> ranks_on_same_cores(const std::vector<RankPlace>& places);

/// The core for a rank's progress thread: when the ranks that share its cores, with `compute_threads` each, leave one
/// for every one of them, the last ones are dealt out. None when compute needs them all.
std::optional<int> find_spare_core(const std::vector<RankPlace>& places, int rank, int compute_threads);

}  // namespace dcs3gd::comm
