#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace dcs3gd::comm {

/// What travels between ranks. Sums are taken in fp32 either way.
enum class Wire {
  fp32,
  bf16,  ///< half the bytes; each hop rounds its partial sum (README.md has the numerics)
};

/// Bytes that a float takes on the wire.
constexpr std::size_t wire_bytes(Wire wire) { return wire == Wire::bf16 ? sizeof(std::uint16_t) : sizeof(float); }

/// The `comm:` section of the configuration.
struct Options {
  // Affects results.
  std::string algorithm = "ring";  ///< a name of schedule/algorithms.h, or auto
  Wire wire = Wire::fp32;
  std::optional<int> ranks_per_host;  ///< who is a host: this many ranks each; none: as the system says

  // Affects speed and waiting only.
  std::optional<std::size_t>
      segment_bytes;        ///< pieces a chunk travels in, 64 … 2^30; none: 1 MiB on one host, else 60 KiB
  std::optional<int> core;  ///< where the progress thread is pinned; none: a spare core if there is one
  double timeout_s = 300;   ///< an operation that stands still for this long fails
};

}  // namespace dcs3gd::comm
