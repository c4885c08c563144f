#include "app/job/parallel_tasks.h"

#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace dcs3gd::app {

void run_tasks(std::uint64_t count, int threads, const std::function<void(std::uint64_t)>& task) {
  std::atomic<std::uint64_t> next = 0;
  std::atomic<bool> failed = false;
  std::exception_ptr first_failure;
  std::mutex mutex;
  const auto work = [&] {
    for (std::uint64_t number = next++; number < count && !failed; number = next++) {
      try {
        task(number);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!failed.exchange(true)) first_failure = std::current_exception();
      }
    }
  };
  {
    std::vector<std::jthread> team;
    for (int thread = 1; thread < threads; ++thread) team.emplace_back(work);
    work();
  }
  if (first_failure) std::rethrow_exception(first_failure);
}

}  // namespace dcs3gd::app
