#pragma once

#include <cstddef>
#include <optional>
#include <string>

/// What control groups (a container, a job of Slurm) leave to this process, of either version, at any level of the
/// hierarchy. `root` is where /proc and /sys are found.
namespace dcs3gd::app {

/// Cores' worth of time that the groups grant, such as 0.5; none without a limit.
std::optional<double> cores_granted_by_control_groups(const std::string& root = "");

/// Bytes up to the nearest limit; the largest number without one.
std::size_t bytes_left_by_control_groups(const std::string& root = "");

}  // namespace dcs3gd::app
