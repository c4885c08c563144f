#include "app/job/control_groups.h"

#include <limits>
#include <string>

#include <doctest/doctest.h>

#include "tests/support/system_files.h"

using namespace dcs3gd::app;

namespace {

constexpr std::size_t kMegabyte = 1 << 20;

}  // namespace

TEST_CASE("without control groups there is no limit") {
  const dcs3gd::test::SystemFiles system;
  CHECK_FALSE(cores_granted_by_control_groups(system.root()));
  CHECK(bytes_left_by_control_groups(system.root()) == std::numeric_limits<std::size_t>::max());
}

TEST_CASE("limits of version 2: the tightest of all levels") {
  const dcs3gd::test::SystemFiles system;
  system.write("proc/self/cgroup", "0::/job/step");
  system.write("sys/fs/cgroup/job/step/cpu.max", "max 100000");
  CHECK_FALSE(cores_granted_by_control_groups(system.root()));
  system.write("sys/fs/cgroup/job/cpu.max", "50000 100000");
  CHECK(cores_granted_by_control_groups(system.root()) == 0.5);

  system.write("sys/fs/cgroup/job/step/memory.max", "max");
  system.write("sys/fs/cgroup/job/memory.max", std::to_string(600 * kMegabyte));
  system.write("sys/fs/cgroup/job/memory.current", std::to_string(200 * kMegabyte));
  system.write("sys/fs/cgroup/job/memory.stat", "active_file " + std::to_string(50 * kMegabyte));
  CHECK(bytes_left_by_control_groups(system.root()) == 450 * kMegabyte);
}

TEST_CASE("limits of version 1, whose controllers have hierarchies of their own") {
  const dcs3gd::test::SystemFiles system;
  system.write("proc/self/cgroup", "5:memory:/box\n4:cpu,cpuacct:/box/inner\n1:name=systemd:/\n0::/");
  system.write("sys/fs/cgroup/cpu/box/inner/cpu.cfs_quota_us", "-1");
  system.write("sys/fs/cgroup/cpu/box/inner/cpu.cfs_period_us", "100000");
  CHECK_FALSE(cores_granted_by_control_groups(system.root()));
  system.write("sys/fs/cgroup/cpu/box/cpu.cfs_quota_us", "250000");
  system.write("sys/fs/cgroup/cpu/box/cpu.cfs_period_us", "100000");
  CHECK(cores_granted_by_control_groups(system.root()) == 2.5);

  system.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712");
  CHECK(bytes_left_by_control_groups(system.root()) == std::numeric_limits<std::size_t>::max());
  system.write("sys/fs/cgroup/memory/box/memory.limit_in_bytes", std::to_string(300 * kMegabyte));
  system.write("sys/fs/cgroup/memory/box/memory.usage_in_bytes", std::to_string(400 * kMegabyte));
  CHECK(bytes_left_by_control_groups(system.root()) == 0);
}

TEST_CASE("in a container the group's path is that of the host, and its folder is the root") {
  const dcs3gd::test::SystemFiles system;
  system.write("proc/self/cgroup", "4:cpu,cpuacct:/docker/0123");
  system.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "150000");
  system.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000");
  CHECK(cores_granted_by_control_groups(system.root()) == 1.5);
}
