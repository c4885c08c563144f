#include "app/job/threads.h"

#include <algorithm>
#include <cstdlib>

#include <omp.h>

namespace dcs3gd::app {
namespace {

/// The first number of OMP_NUM_THREADS, which may be a list ("4,2": per nesting level); none if it is no number.
std::optional<int> first_number(const char* text) {
  if (text == nullptr) return {};
  const long number = std::strtol(text, nullptr, 10);
  return number > 0 ? std::optional<int>(static_cast<int>(number)) : std::nullopt;
}

}  // namespace

ThreadPlan plan_threads(std::optional<int> configured, const char* omp_num_threads,
                        const std::vector<comm::RankPlace>& places, int rank) {
  const auto cores = static_cast<int>(places[static_cast<std::size_t>(rank)].cores.size());
  const auto sharing = static_cast<int>(comm::ranks_on_same_cores(places, rank).size());
  const int share = std::max(1, cores / sharing);
  if (!configured) configured = first_number(omp_num_threads);
  const int compute = configured.value_or(share);
  return {.compute = compute, .spare = std::max(0, share - compute)};
}

ThreadPlan use_threads(std::optional<int> configured, comm::Communicator& communicator) {
  const ThreadPlan threads =
      plan_threads(configured, std::getenv("OMP_NUM_THREADS"), communicator.places(), communicator.rank());
  omp_set_num_threads(threads.compute);
  communicator.pin_progress_thread(threads.compute);
  return threads;
}

}  // namespace dcs3gd::app
