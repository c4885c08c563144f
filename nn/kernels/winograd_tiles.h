#pragma once

#include <cstddef>

#include "core/bf16.h"

/// The inner loops of Winograd's algorithm F(4×4, 3×3) (Lavin & Gray, arXiv 1509.09308) over rows of `lanes`
/// neighbouring channels, 8 or 16: transforms of tiles and weights, and the matrix products between them. A tile of
/// 4×4 pixels of dst is computed from 6×6 of src; transformed, either is 36 rows, one at each position, `stride`
/// elements apart. Activations are fp32 or bf16, all else is fp32. On one thread.
namespace dcs3gd::nn::winograd {

constexpr std::size_t kTile = 4;
constexpr std::size_t kPositions = 36;
constexpr std::size_t kRowMultiple = 4;

/// The tiles of a batch, counted image by image, row by row.
struct TileGrid {
  std::size_t rows = 0;
  std::size_t columns = 0;
};

/// One block of `lanes` channels of all images.
struct Images {
  std::size_t height = 0;
  std::size_t width = 0;
  std::size_t image_stride = 0;  ///< elements
};

struct TileRange {
  std::size_t first = 0;
  std::size_t count = 0;
};

/// Transforms the sources of tiles, which overlap by two pixels and begin `padding` pixels outside the image. What lies
/// outside counts as zero.
void transform_src(std::size_t lanes, const TileGrid& grid, const Images& images, std::size_t padding,
                   const TileRange& tiles, const float* src, float* transformed, std::size_t stride);
void transform_src(std::size_t lanes, const TileGrid& grid, const Images& images, std::size_t padding,
                   const TileRange& tiles, const Bf16* src, float* transformed, std::size_t stride);

/// Transforms gradients of dst for the weights' gradient, and adds those of each channel to `sum`, a row.
void transform_diff_dst(std::size_t lanes, const TileGrid& grid, const Images& images, const TileRange& tiles,
                        const float* diff_dst, float* transformed, std::size_t stride, float* sum);
void transform_diff_dst(std::size_t lanes, const TileGrid& grid, const Images& images, const TileRange& tiles,
                        const Bf16* diff_dst, float* transformed, std::size_t stride, float* sum);

/// Transforms products back and adds the bias, a row (null: none).
void transform_dst(std::size_t lanes, const TileGrid& grid, const Images& images, const TileRange& tiles,
                   const float* products, std::size_t stride, const float* bias, float* dst);
void transform_dst(std::size_t lanes, const TileGrid& grid, const Images& images, const TileRange& tiles,
                   const float* products, std::size_t stride, const float* bias, Bf16* dst);

/// Kernels of 3×3: `count` rows of `width` ≤ lanes channels, whose other lanes are zeros. Strides are from row to row
/// and from channel to channel of a row.
struct KernelRows {
  std::size_t count = 0;
  std::size_t width = 0;
  std::size_t row_stride = 0;
  std::size_t lane_stride = 0;
};

/// Transforms weights; `flipped`: turned by half a turn, as the gradient of src needs them.
void transform_weights(std::size_t lanes, const KernelRows& rows, bool flipped, const float* weights,
                       float* transformed, std::size_t stride);

/// Transforms products back to the gradient of weights.
void transform_diff_weights(std::size_t lanes, const KernelRows& rows, const float* products, std::size_t stride,
                            float* diff_weights);

/// A product of matrices for each position: c(row, lanes of column block) = Σ a(row, k) b(k, lanes of column block).
/// The rows of a are tiles, and k channels, in blocks of lanes; or the other way round.
struct Product {
  std::size_t rows = 0;     ///< a multiple of kRowMultiple
  std::size_t columns = 0;  ///< blocks of lanes
  std::size_t depth = 0;    ///< k
  bool rows_are_lanes = false;
  std::size_t a_block = 0;   ///< from one block of lanes of a to the next, whatever they are
  std::size_t b_column = 0;  ///< from column block to column block; b's rows are neighbours
  std::size_t c_column = 0;
};
/// `accumulate`: adds to c
void multiply(std::size_t lanes, const Product& product, const float* a, const float* b, bool accumulate, float* c);

}  // namespace dcs3gd::nn::winograd
