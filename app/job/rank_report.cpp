#include "app/job/rank_report.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include <unistd.h>

#include "app/job/control_groups.h"
#include "core/format.h"

namespace dcs3gd::app {
namespace {

/// "core 3", "cores 0-3"
std::string numbered(std::string_view noun, const std::vector<int>& numbers) {
  return format("{}{} {}", noun, numbers.size() == 1 ? "" : "s", format_ranges(numbers));
}

std::vector<comm::RankPlace> places_of(const std::vector<RankUse>& ranks) {
  std::vector<comm::RankPlace> places;
  places.reserve(ranks.size());
  for (const RankUse& rank : ranks) places.push_back(rank.place);
  return places;
}

std::vector<int> cores_of(const std::vector<RankUse>& ranks, const std::vector<int>& numbers) {
  std::set<int> cores;
  for (const int number : numbers) {
    const std::vector<int>& own = ranks[static_cast<std::size_t>(number)].place.cores;
    cores.insert(own.begin(), own.end());
  }
  return {cores.begin(), cores.end()};
}

/// Ranks that compete for cores, where their threads are more than those cores.
void warn_of_crowding(const std::vector<RankUse>& ranks, std::vector<std::string>& warnings) {
  const std::vector<comm::RankPlace> places = places_of(ranks);
  const std::vector<std::vector<int>> all_sharers = comm::ranks_on_same_cores(places);
  for (int rank = 0; rank < static_cast<int>(ranks.size()); ++rank) {
    const std::vector<int>& sharers = all_sharers[static_cast<std::size_t>(rank)];
    if (sharers.front() != rank) continue;  // said by the first of them
    const std::vector<int> cores = cores_of(ranks, sharers);
    std::size_t threads = 0;
    for (const int sharer : sharers)
      threads += static_cast<std::size_t>(ranks[static_cast<std::size_t>(sharer)].threads);
    const comm::RankPlace& place = places[static_cast<std::size_t>(rank)];
    const auto computing_cores = static_cast<std::size_t>(place.computing_cores());
    if (threads > computing_cores && threads <= cores.size() && cores == place.cores) {
      warnings.push_back(format("{} on {}: {} on {}, whose hyper-threads share the arithmetic",
                                numbered("rank", sharers), place.host, counted(threads, "thread"),
                                counted(computing_cores, "core")));
    }
    if (threads <= cores.size()) continue;
    warnings.push_back(format("{} on {}: {} on {} ({})", numbered("rank", sharers), place.host,
                              counted(threads, "thread"), counted(cores.size(), "core"), format_ranges(cores)));
  }
}

/// Ranks whose control group throttles them; those on the same cores are taken to be in the same.
void warn_of_throttling(const std::vector<RankUse>& ranks, std::vector<std::string>& warnings) {
  const std::vector<comm::RankPlace> places = places_of(ranks);
  const std::vector<std::vector<int>> all_sharers = comm::ranks_on_same_cores(places);
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    const std::vector<int>& sharers = all_sharers[rank];
    const double granted = ranks[rank].granted_cores;
    if (granted == 0 || sharers.front() != static_cast<int>(rank)) continue;
    int threads = 0;
    for (const int sharer : sharers) threads += ranks[static_cast<std::size_t>(sharer)].threads;
    if (threads <= granted) continue;
    warnings.push_back(
        format("{} on {}: {}, but the control group (container, Slurm job) grants the time of {:.3g} cores "
               "and stops them in between: lower run.threads, or raise its limit",
               numbered("rank", sharers), places[rank].host, counted(threads, "thread"), granted));
  }
}

std::map<std::string, std::vector<int>> ranks_by_host(const std::vector<RankUse>& ranks) {
  std::map<std::string, std::vector<int>> hosts;
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    hosts[ranks[rank].place.host].push_back(static_cast<int>(rank));
  }
  return hosts;
}

/// Ranks that compute on several sockets: half of what they read lies behind the other one.
void warn_of_sockets(const std::vector<RankUse>& ranks, const std::string& command,
                     std::vector<std::string>& warnings) {
  int sockets = 0;  // of all hosts
  for (const auto& [host, numbers] : ranks_by_host(ranks)) {
    std::vector<int> here(numbers.size());
    std::ranges::transform(numbers, here.begin(),
                           [&](int rank) { return ranks[static_cast<std::size_t>(rank)].place.sockets; });
    sockets += std::ranges::max(here);
  }
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    const RankUse& use = ranks[rank];
    if (use.place.sockets == 1 || use.threads * use.place.sockets <= use.place.computing_cores()) continue;
    warnings.push_back(
        format("rank {} on {}: {} on {} sockets, each slow to reach the other's memory; with one rank a "
               "socket: mpirun -n {} --map-by ppr:1:socket --bind-to socket {}",
               rank, use.place.host, counted(use.threads, "thread"), use.place.sockets, sockets, command));
  }
}

/// Hosts whose cores are, by the launcher's binding, not all in reach of the ranks.
void warn_of_idle_cores(const std::vector<RankUse>& ranks, std::vector<std::string>& warnings) {
  for (const auto& [host, numbers] : ranks_by_host(ranks)) {
    const std::vector<int> cores = cores_of(ranks, numbers);
    const int host_cores = ranks[static_cast<std::size_t>(numbers.front())].host_cores;
    if (static_cast<int>(cores.size()) >= host_cores) continue;
    warnings.push_back(format("{} on {}: bound to {}, but the host has {}", numbered("rank", numbers), host,
                              numbered("core", cores), counted(host_cores, "core")));
  }
}

/// The threads per rank that fit on every host, one a physical core; 0 if a host has more ranks than cores.
int fitting_threads(const std::vector<RankUse>& ranks) {
  int threads = ranks.front().host_cores;
  for (const auto& [host, numbers] : ranks_by_host(ranks)) {
    const RankUse& use = ranks[static_cast<std::size_t>(numbers.front())];
    const auto ranks_here = static_cast<int>(numbers.size());
    const int hyper_threads = static_cast<int>(use.place.cores.size()) / std::max(1, use.place.computing_cores());
    const int physical_cores = use.host_cores / std::max(1, hyper_threads);
    threads = std::min(threads, ranks_here > use.host_cores ? 0 : std::max(1, physical_cores / ranks_here));
  }
  return threads;
}

std::string remedy(const std::vector<RankUse>& ranks, const std::string& command, bool by_mpirun) {
  const int threads = fitting_threads(ranks);
  if (threads == 0) {
    return "there are more ranks than cores: start fewer; with algorithm.workers_per_rank the number of workers can "
           "stay";
  }
  if (ranks.size() == 1 && !by_mpirun) {
    return format("set OMP_NUM_THREADS or run.threads to {} at most", ranks.front().place.computing_cores());
  }
  return format("start it like this: mpirun -n {} --bind-to none {} --set run.threads={}", ranks.size(), command,
                threads);
}

}  // namespace

std::vector<RankUse> gather_rank_uses(comm::Communicator& communicator, int threads) {
  struct Use {
    int threads;
    int host_cores;
    double granted_cores;
  };
  const Use mine{threads, static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN)),
                 cores_granted_by_control_groups().value_or(0)};
  std::vector<RankUse> ranks;
  for (const Use& use : communicator.gather(mine)) {
    ranks.push_back({communicator.places()[ranks.size()], use.threads, use.host_cores, use.granted_cores});
  }
  return ranks;
}

std::string format_ranges(const std::vector<int>& numbers) {
  std::string text;
  for (std::size_t first = 0; first < numbers.size();) {
    std::size_t last = first;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) ++last;
    text += format("{}{}", text.empty() ? "" : ",", numbers[first]);
    if (last > first) text += format("-{}", numbers[last]);
    first = last + 1;
  }
  return text;
}

std::vector<std::string> shortened(std::vector<std::string> lines) {
  constexpr std::size_t kMostLines = 8;
  if (lines.size() <= kMostLines) return lines;
  const std::size_t rest = lines.size() - kMostLines + 1;
  lines.resize(kMostLines - 1);
  lines.push_back(format("and {} more like these", rest));
  return lines;
}

std::vector<std::string> describe_ranks(const std::vector<RankUse>& ranks) {
  std::vector<std::string> lines;
  for (std::size_t first = 0; first < ranks.size();) {
    const RankUse& use = ranks[first];
    std::vector<int> group;
    while (first < ranks.size() && ranks[first].place == use.place && ranks[first].threads == use.threads) {
      group.push_back(static_cast<int>(first++));
    }
    lines.push_back(format("{} on {}: {}{}, {}{}", numbered("rank", group), use.place.host,
                           counted(use.threads, "thread"), group.size() > 1 ? " each" : "",
                           numbered("core", use.place.cores), group.size() > 1 ? " shared" : ""));
  }
  return shortened(std::move(lines));
}

std::vector<std::string> placement_warnings(const std::vector<RankUse>& ranks, const std::string& command,
                                            bool by_mpirun) {
  std::vector<std::string> warnings;
  warn_of_crowding(ranks, warnings);
  // A single process that mpirun did not bind was confined on purpose.
  if (ranks.size() > 1 || by_mpirun) warn_of_idle_cores(ranks, warnings);
  warnings = shortened(std::move(warnings));
  if (!warnings.empty()) warnings.push_back(remedy(ranks, command, by_mpirun));
  std::vector<std::string> with_remedy;
  warn_of_throttling(ranks, with_remedy);
  warn_of_sockets(ranks, command, with_remedy);
  std::ranges::copy(shortened(std::move(with_remedy)), std::back_inserter(warnings));
  return warnings;
}

}  // namespace dcs3gd::app
