#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "comm/schedule/wire.h"

namespace dcs3gd::comm {

/// The `comm:` section of the configuration.
struct Options {
  // Affects results.
  std::string algorithm = "auto";  ///< auto, or a name of schedule/algorithms.h
  Wire wire = Wire::fp32;
  std::optional<int> ranks_per_host;  ///< who is a host: this many ranks each; none: as the system says

  // Affects speed and waiting only.
  std::optional<std::size_t>
      segment_bytes;        ///< pieces a chunk travels in, 64 … 2^30; none: 1 MiB on one host, else 60 KiB
  std::optional<int> core;  ///< where the progress thread is pinned; none: a spare core if there is one
  double timeout_s = 300;   ///< an operation that stands still for this long fails
};

}  // namespace dcs3gd::comm
