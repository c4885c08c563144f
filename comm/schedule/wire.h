#pragma once

#include <array>
#include <cstddef>
#include <string_view>

namespace dcs3gd::comm {

/// What travels between ranks. Sums are taken in fp32 on any wire; README.md has the numerics.
enum class Wire {
  fp32,
  bf16,  ///< half the bytes; each hop rounds its partial sum
  int8,  ///< whole multiples of a scale that a block shares; only where a sum is rounded twice at most
  int4,
};

struct WireInfo {
  std::string_view name;  ///< in comm.wire
  Wire wire;
  std::size_t group_floats;  ///< are sent together …
  std::size_t group_bytes;   ///< … as so many bytes
  double rounding;           ///< of a number, as a share of the largest one of its group

  double bits() const { return 8.0 * static_cast<double>(group_bytes) / static_cast<double>(group_floats); }
};

/// Floats that share a scale, which is a bf16.
constexpr std::size_t kBlockFloats = 32;

/// All of them, the default first.
inline constexpr std::array kWires{WireInfo{"fp32", Wire::fp32, 1, 4, 0x1p-23},
                                   WireInfo{"bf16", Wire::bf16, 1, 2, 0x1p-8},
                                   WireInfo{"int8", Wire::int8, kBlockFloats, 2 + kBlockFloats, 0x1p-7},
                                   WireInfo{"int4", Wire::int4, kBlockFloats, 2 + kBlockFloats / 2, 0x1p-3}};

constexpr const WireInfo& info_of(Wire wire) { return kWires[static_cast<std::size_t>(wire)]; }
/// Whether what the wire's rounding loses is too much to be forgotten.
constexpr bool is_narrow(Wire wire) { return info_of(wire).group_floats > 1; }
/// What so many floats are on the wire: whole groups.
constexpr std::size_t wire_bytes(Wire wire, std::size_t floats) {
  const WireInfo& info = info_of(wire);
  return (floats + info.group_floats - 1) / info.group_floats * info.group_bytes;
}
/// Whole groups in so many bytes: so many floats.
constexpr std::size_t wire_floats(Wire wire, std::size_t bytes) {
  return bytes / info_of(wire).group_bytes * info_of(wire).group_floats;
}

}  // namespace dcs3gd::comm
