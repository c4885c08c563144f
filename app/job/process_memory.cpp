#include "app/job/process_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <string>

#include <unistd.h>

namespace dcs3gd::app {
namespace {

/// The first number of a file of the system; none if there is none ("max").
std::optional<std::size_t> number_in(const std::string& path) {
  std::ifstream file(path);
  std::size_t number = 0;
  return file >> number ? std::optional(number) : std::nullopt;
}

/// Of the control group in this folder, without what the system keeps of files only as long as there is room.
std::size_t bytes_used(const std::string& folder) {
  std::size_t files = 0;
  std::ifstream statistics(folder + "/memory.stat");
  std::string name;
  for (std::size_t bytes = 0; statistics >> name >> bytes;) {
    if (name == "active_file" || name == "inactive_file") files += bytes;
  }
  const std::size_t charged = number_in(folder + "/memory.current").value_or(0);
  return charged - std::min(charged, files);
}

/// What the control group of this process leaves it (version 2), at any level of the hierarchy.
std::size_t left_by_control_groups() {
  std::size_t left = std::numeric_limits<std::size_t>::max();
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("0::")) continue;
    for (std::string group = line.substr(3);; group.resize(group.rfind('/'))) {
      const std::string folder = "/sys/fs/cgroup" + (group == "/" ? "" : group);
      if (const auto limit = number_in(folder + "/memory.max")) {
        left = std::min(left, *limit - std::min(*limit, bytes_used(folder)));
      }
      if (group.empty() || group == "/") break;
    }
  }
  return left;
}

}  // namespace

std::size_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::size_t whole = 0;
  std::size_t resident = 0;
  file >> whole >> resident;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

std::size_t available_bytes() {
  constexpr std::size_t kKilobyte = 1024;
  std::size_t left = left_by_control_groups();
  std::ifstream file("/proc/meminfo");
  for (std::string name; file >> name;) {
    std::size_t kilobytes = 0;
    if (name == "MemAvailable:" && file >> kilobytes) left = std::min(left, kKilobyte * kilobytes);
  }
  return left;
}

}  // namespace dcs3gd::app
