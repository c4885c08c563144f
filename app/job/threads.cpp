#include "app/job/threads.h"

#include <algorithm>
#include <cstdlib>
#include <latch>
#include <limits>
#include <thread>

#include <omp.h>

#include "app/job/agreement.h"
#include "app/job/control_groups.h"
#include "core/error.h"
#include "core/format.h"

namespace dcs3gd::app {
namespace {

/// The first number of OMP_NUM_THREADS, which may be a list ("4,2": per nesting level); none if it is no number.
std::optional<int> first_number(const char* text) {
  if (text == nullptr) return {};
  const long number = std::strtol(text, nullptr, 10);
  return number > 0 ? std::optional<int>(static_cast<int>(number)) : std::nullopt;
}

/// OpenMP ends the process where a thread cannot be started; here it is said why.
void expect_room_for(int threads) {
  std::latch all_there(1);
  std::vector<std::jthread> trial;
  trial.reserve(static_cast<std::size_t>(std::max(threads, 0)));
  const auto problem = attempt([&] {
    for (int thread = 0; thread < threads; ++thread) trial.emplace_back([&] { all_there.wait(); });
  });
  all_there.count_down();
  if (!problem) return;
  throw Error(ErrorKind::input,
              format("run.threads: {} of {} threads beside the main one: {}", trial.size(), threads, problem->what()));
}

}  // namespace

ThreadPlan plan_threads(std::optional<int> configured, const char* omp_num_threads,
                        const std::vector<comm::RankPlace>& places, int rank, const ThreadLimits& limits) {
  const comm::RankPlace& place = places[static_cast<std::size_t>(rank)];
  const auto sharing = static_cast<int>(comm::ranks_on_same_cores(places, rank).size());
  const auto share_of = [&](int cores) {
    if (limits.cores) cores = std::min(cores, static_cast<int>(std::min(*limits.cores, 1e6)));
    return std::max(1, cores / sharing);
  };
  if (!configured) configured = first_number(omp_num_threads);
  const int team = limits.team.value_or(std::numeric_limits<int>::max());
  const int compute = configured.value_or(std::min(share_of(place.computing_cores()), team));
  return {.compute = compute, .spare = std::max(0, share_of(static_cast<int>(place.cores.size())) - compute)};
}

void use_team(int threads) {
  expect_room_for(threads - 1);
  omp_set_dynamic(0);  // else OpenMP takes fewer where the machine is busy
  omp_set_max_active_levels(1);
  omp_set_num_threads(threads);
  int found = 0;
#pragma omp parallel
#pragma omp single
  found = omp_get_num_threads();
  if (found == threads) return;
  throw Error(ErrorKind::input, format("run.threads: OpenMP gives {} of {} threads: raise or unset OMP_THREAD_LIMIT "
                                       "(now {}), or ask for fewer with run.threads or OMP_NUM_THREADS",
                                       found, threads, omp_get_thread_limit()));
}

ThreadPlan use_threads(std::optional<int> configured, comm::Communicator& communicator) {
  const ThreadPlan threads =
      plan_threads(configured, std::getenv("OMP_NUM_THREADS"), communicator.places(), communicator.rank(),
                   {.cores = cores_granted_by_control_groups(), .team = omp_get_thread_limit()});
  agree(communicator, [&] { use_team(threads.compute); });
  communicator.pin_progress_thread(threads.compute);
  return threads;
}

}  // namespace dcs3gd::app
