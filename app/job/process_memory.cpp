#include "app/job/process_memory.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <limits>
#include <string>
#include <utility>

#include <sys/resource.h>
#include <unistd.h>

#include "app/job/control_groups.h"
#include "core/error.h"
#include "core/format.h"

namespace dcs3gd::app {

namespace {

/// What the process has, as /proc/self/statm tells it; all 0 where there is none.
struct ProcessSize {
  std::size_t whole = 0;
  std::size_t resident = 0;
  std::size_t data = 0;
};

ProcessSize process_size() {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  std::array<std::size_t, 6> pages{};  // whole, resident, shared, code, unused, data
  std::ifstream file("/proc/self/statm");
  for (std::size_t& count : pages) file >> count;
  return {page * pages[0], page * pages[1], page * pages[5]};
}

/// The largest number without a limit.
std::size_t bytes_left_by_own_limits() {
  const ProcessSize size = process_size();
  std::size_t left = std::numeric_limits<std::size_t>::max();
  for (const auto& [resource, used] : {std::pair(RLIMIT_AS, size.whole), std::pair(RLIMIT_DATA, size.data)}) {
    rlimit limit{};
    if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) continue;
    left = std::min<std::size_t>(left, limit.rlim_cur - std::min<std::size_t>(limit.rlim_cur, used));
  }
  return left;
}

}  // namespace

std::size_t resident_bytes() { return process_size().resident; }

std::size_t available_bytes() {
  constexpr std::size_t kKilobyte = 1024;
  std::size_t left = std::min(bytes_left_by_control_groups(), bytes_left_by_own_limits());
  std::ifstream file("/proc/meminfo");
  for (std::string name; file >> name;) {
    std::size_t kilobytes = 0;
    if (name == "MemAvailable:" && file >> kilobytes) left = std::min(left, kKilobyte * kilobytes);
  }
  return left;
}

void expect_room_for_libraries() {
  constexpr std::size_t kLeast = 128'000'000;  // of LeNet-5 with generated code, threads' stacks and the like
  const std::size_t left = bytes_left_by_own_limits();
  if (left >= kLeast) return;
  throw Error(ErrorKind::input,
              format("the limits of this process (ulimit -v, ulimit -d) leave it {:.0f} MB of memory, "
                     "and a network needs {:.0f} MB at least; raise them",
                     1e-6 * static_cast<double>(left), 1e-6 * static_cast<double>(kLeast)));
}

}  // namespace dcs3gd::app
