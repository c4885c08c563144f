#include "comm/placement.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <fstream>
#include <iterator>
#include <map>
#include <set>

#include <sched.h>
#include <unistd.h>

#include "core/format.h"

namespace dcs3gd::comm {
namespace {

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown host";
}

/// What the system says of a core, a word; empty if it says nothing.
std::string topology(const std::string& root, int core, const char* what) {
  std::ifstream file(format("{}/sys/devices/system/cpu/cpu{}/topology/{}", root, core, what));
  std::string word;
  file >> word;
  return word;
}

/// How many different words it says of these cores; 0 if it says nothing of one.
int count_different(const std::string& root, const std::vector<int>& cores, const char* what) {
  std::set<std::string> words;
  for (const int core : cores) words.insert(topology(root, core, what));
  return words.contains("") ? 0 : static_cast<int>(words.size());
}

bool share_a_core(const RankPlace& one, const RankPlace& other) {
  return one.host == other.host && std::find_first_of(one.cores.begin(), one.cores.end(), other.cores.begin(),
                                                      other.cores.end()) != one.cores.end();
}

}  // namespace

RankPlace find_own_place(const std::string& root) {
  RankPlace place{.host = host_name(), .cores = {}};
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) {
    for (int core = 0; core < CPU_SETSIZE; ++core) {
      if (CPU_ISSET(static_cast<std::size_t>(core), &allowed)) place.cores.push_back(core);
    }
  }
  place.physical_cores = count_different(root, place.cores, "thread_siblings_list");
  place.sockets = std::max(1, count_different(root, place.cores, "physical_package_id"));
  return place;
}

std::string pack(const RankPlace& place) {
  std::vector<int> numbers{place.physical_cores, place.sockets};
  numbers.insert(numbers.end(), place.cores.begin(), place.cores.end());
  return format("{}\n{}", place.host, fmt::join(numbers, ","));
}

RankPlace unpack_place(std::string_view blob) {
  const std::size_t line_end = blob.find('\n');
  std::vector<int> numbers;
  const char* const end = blob.data() + blob.size();
  for (const char* at = blob.data() + line_end + 1; at < end;) {
    int number = 0;
    at = std::from_chars(at, end, number).ptr + 1;
    numbers.push_back(number);
  }
  return {.host = std::string(blob.substr(0, line_end)),
          .cores = {numbers.begin() + 2, numbers.end()},
          .physical_cores = numbers[0],
          .sockets = numbers[1]};
}

std::vector<int> ranks_on_same_cores(const std::vector<RankPlace>& places, int rank) {
  const RankPlace& own = places[static_cast<std::size_t>(rank)];
  std::vector<int> ranks;
  for (std::size_t other = 0; other < places.size(); ++other) {
    if (static_cast<int>(other) == rank || share_a_core(own, places[other])) ranks.push_back(static_cast<int>(other));
  }
  return ranks;
}

std::vector<std::vector<int>> ranks_on_same_cores(const std::vector<RankPlace>& places) {
  std::map<std::string_view, std::vector<int>> hosts;
  for (std::size_t rank = 0; rank < places.size(); ++rank) hosts[places[rank].host].push_back(static_cast<int>(rank));
  std::vector<std::vector<int>> sharers(places.size());
  for (const auto& [host, ranks] : hosts) {
    for (const int rank : ranks) {
      const RankPlace& own = places[static_cast<std::size_t>(rank)];
      std::ranges::copy_if(ranks, std::back_inserter(sharers[static_cast<std::size_t>(rank)]), [&](int other) {
        return other == rank || share_a_core(own, places[static_cast<std::size_t>(other)]);
      });
    }
  }
  return sharers;
}

std::optional<int> find_spare_core(const std::vector<RankPlace>& places, int rank, int compute_threads) {
  const std::vector<int>& cores = places[static_cast<std::size_t>(rank)].cores;
  const std::vector<int> sharers = ranks_on_same_cores(places, rank);
  const std::size_t needed = sharers.size() * (static_cast<std::size_t>(compute_threads) + 1);
  if (cores.size() < needed) return std::nullopt;
  const auto own_turn = std::find(sharers.begin(), sharers.end(), rank) - sharers.begin();
  return cores[cores.size() - 1 - static_cast<std::size_t>(own_turn)];
}

}  // namespace dcs3gd::comm
