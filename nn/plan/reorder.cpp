#include "nn/plan/reorder.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "nn/kernels/elementwise.h"
#include "nn/kernels/weights_layout.h"

namespace dcs3gd::nn {
namespace {

/// Copies fp32 weights from tiles to plain: for each output channel of a tile, the values of its input channels'
/// kernels, which are neighbours there.
class FromTiles {
 public:
  explicit FromTiles(WeightsLayout layout) : layout_(std::move(layout)) {
    sources_.reserve(layout_.in_tile.size() * layout_.positions);
    for (const std::uint32_t offset : layout_.in_tile) {
      for (std::size_t position = 0; position < layout_.positions; ++position) {
        sources_.push_back(static_cast<std::uint32_t>(offset + position * layout_.position_stride));
      }
    }
  }

  void operator()(const float* src, float* dst) const {
    const std::size_t ic_tiles = layout_.ic_tiles();
    const std::size_t tiles = layout_.oc_tiles() * ic_tiles;
#pragma omp parallel for schedule(static) if (tiles > 1)
    for (std::size_t tile = 0; tile < tiles; ++tile) copy_tile(tile / ic_tiles, tile % ic_tiles, src, dst);
  }

 private:
  void copy_tile(std::size_t oc_tile, std::size_t ic_tile, const float* src, float* dst) const {
    const std::size_t first_oc = oc_tile * layout_.tile_oc;
    const std::size_t first_ic = ic_tile * layout_.tile_ic;
    const std::size_t rows = std::min(layout_.tile_oc, layout_.oc - first_oc);
    const std::size_t row_values = std::min(layout_.tile_ic, layout_.ic - first_ic) * layout_.positions;
    const float* const from = src + oc_tile * layout_.oc_stride + ic_tile * layout_.ic_stride;
    for (std::size_t row = 0; row < rows; ++row) {
      const std::uint32_t* const sources = sources_.data() + row * layout_.tile_ic * layout_.positions;
      float* const to = dst + ((first_oc + row) * layout_.ic + first_ic) * layout_.positions;
      for (std::size_t i = 0; i < row_values; ++i) to[i] = from[sources[i]];
    }
  }

  WeightsLayout layout_;
  std::vector<std::uint32_t> sources_;  ///< of each value of a tile in plain order, from the tile's start
};

}  // namespace

KernelOperation::Kernel own_reorder(Tensor* src, Tensor* dst) {
  const Precision from = src->precision();
  const Precision to = dst->precision();
  if (onednn::in_precision(src->desc(), to) == dst->desc()) {
    const std::size_t count = src->desc().get_size() / element_bytes(from);
    return [=](const ImageRange& range) { convert(from, src->address(range), to, dst->address(range), count); };
  }
  constexpr std::size_t kMostTileValues = 1 << 15;  // each of which has a place in a table
  if (from != Precision::fp32 || dst->desc() != onednn::plain(onednn::dims_of(dst->desc()))) return nullptr;
  std::optional<WeightsLayout> layout = onednn::weights_layout(src->desc());
  if (!layout || layout->in_tile.size() * layout->positions > kMostTileValues) return nullptr;
  return [copy = FromTiles(std::move(*layout)), src, dst](const ImageRange& range) {
    copy(src->values(range), dst->values(range));
  };
}

}  // namespace dcs3gd::nn
