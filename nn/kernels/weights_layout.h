#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace dcs3gd::nn {

/// Where weights {oc, ic, kernel…} lie in oneDNN's blocked formats: a tile holds tile_oc × tile_ic neighbouring
/// channels of one position of the kernel, in any order; the last tiles are padded with zeros. Strides count elements.
struct WeightsLayout {
  std::size_t oc = 0;
  std::size_t ic = 0;
  std::size_t positions = 0;  ///< of the kernel: height × width
  std::size_t tile_oc = 0;
  std::size_t tile_ic = 0;
  std::size_t oc_stride = 0;  ///< from tile to tile
  std::size_t ic_stride = 0;
  std::size_t position_stride = 0;
  std::vector<std::uint32_t> in_tile;  ///< where (oc, ic) lies from the tile's start; ic runs fastest

  std::size_t oc_tiles() const { return (oc + tile_oc - 1) / tile_oc; }
  std::size_t ic_tiles() const { return (ic + tile_ic - 1) / tile_ic; }
};

}  // namespace dcs3gd::nn
