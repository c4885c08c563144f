#include "app/job/control_groups.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <vector>

namespace dcs3gd::app {
namespace {

/// The first number of a file of the system; none if there is none ("max").
std::optional<double> number_in(const std::string& path) {
  std::ifstream file(path);
  double number = 0;
  return file >> number ? std::optional(number) : std::nullopt;
}

/// The first that is there: the files of version 2 and version 1 have different names.
std::optional<double> number_in(const std::string& folder, const char* version_2, const char* version_1) {
  const auto number = number_in(folder + version_2);
  return number ? number : number_in(folder + version_1);
}

/// The folders of the groups that this process is in for a controller: its own, then those above. In a container the
/// upper part of the path may not be there; the folder of the root is then its own.
std::vector<std::string> group_folders(const std::string& root, const std::string& controller) {
  std::vector<std::string> folders;
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {  // "4:cpu,cpuacct:/group", in version 2 "0::/group"
    const std::size_t controllers = line.find(':') + 1;
    const std::size_t path = line.find(":/", controllers);
    if (controllers == 0 || path == std::string::npos) continue;
    const std::string names = "," + line.substr(controllers, path - controllers) + ",";
    const bool is_version_2 = names == ",,";
    if (!is_version_2 && names.find("," + controller + ",") == std::string::npos) continue;
    const std::string mount = root + "/sys/fs/cgroup" + (is_version_2 ? "" : "/" + controller);
    std::string group = line.substr(path + 1);
    for (; group.size() > 1; group.resize(group.rfind('/'))) folders.push_back(mount + group);
    folders.push_back(mount);
  }
  return folders;
}

/// Of the group in this folder, without what the system keeps of files only as long as there is room.
double bytes_used(const std::string& folder) {
  double files = 0;
  std::ifstream statistics(folder + "/memory.stat");
  std::string name;
  for (double bytes = 0; statistics >> name >> bytes;) {
    if (name == "active_file" || name == "inactive_file") files += bytes;
  }
  return number_in(folder, "/memory.current", "/memory.usage_in_bytes").value_or(0) - files;
}

}  // namespace

std::optional<double> cores_granted_by_control_groups(const std::string& root) {
  std::optional<double> cores;
  for (const std::string& folder : group_folders(root, "cpu")) {
    double quota = 0;  // µs of each period
    double period = 0;
    std::ifstream version_2(folder + "/cpu.max");
    if (!(version_2 >> quota >> period)) {
      quota = number_in(folder + "/cpu.cfs_quota_us").value_or(-1);
      period = number_in(folder + "/cpu.cfs_period_us").value_or(0);
    }
    if (quota > 0 && period > 0) cores = std::min(cores.value_or(quota / period), quota / period);
  }
  return cores;
}

std::size_t bytes_left_by_control_groups(const std::string& root) {
  constexpr std::size_t kNoLimit = std::numeric_limits<std::size_t>::max();
  constexpr double kVersion1None = 4e18;  // it writes 2^63 less a page
  std::size_t left = kNoLimit;
  for (const std::string& folder : group_folders(root, "memory")) {
    const auto limit = number_in(folder, "/memory.max", "/memory.limit_in_bytes");
    if (!limit || *limit >= kVersion1None) continue;
    left = std::min(left, static_cast<std::size_t>(std::max(0.0, *limit - std::max(0.0, bytes_used(folder)))));
  }
  return left;
}

}  // namespace dcs3gd::app
