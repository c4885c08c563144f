#include "app/job/process_memory.h"

#include <algorithm>
#include <fstream>
#include <string>

#include <unistd.h>

#include "app/job/control_groups.h"

namespace dcs3gd::app {

std::size_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::size_t whole = 0;
  std::size_t resident = 0;
  file >> whole >> resident;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

std::size_t available_bytes() {
  constexpr std::size_t kKilobyte = 1024;
  std::size_t left = bytes_left_by_control_groups();
  std::ifstream file("/proc/meminfo");
  for (std::string name; file >> name;) {
    std::size_t kilobytes = 0;
    if (name == "MemAvailable:" && file >> kilobytes) left = std::min(left, kKilobyte * kilobytes);
  }
  return left;
}

}  // namespace dcs3gd::app
