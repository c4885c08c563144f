#include "nn/kernels/winograd_tiles.h"

#include <algorithm>
#include <type_traits>

#include "core/simd.h"
#include "nn/kernels/vectors.h"

namespace dcs3gd::nn::winograd {
namespace {

template <std::size_t kLanes>
using Row = typename Vector<kLanes>::Row;

// The points of the polynomials are 0, ±kA, ±kB and infinity: with these the transforms enlarge rounding less than with
// the usual 1 and 2, and their squares and products are exact.
constexpr float kA = 0.625F;
constexpr float kB = 1.5F;
constexpr float kA2 = kA * kA;
constexpr float kB2 = kB * kB;
constexpr float kN0 = 1 / (kA2 * kB2);
constexpr float kNa = 1 / (2 * kA2 * (kA2 - kB2));
constexpr float kNb = 1 / (2 * kB2 * (kB2 - kA2));

constexpr std::size_t kSide = 6;
constexpr std::size_t kKernel = 9;

/// Of a product at a time: what is read again and again stays in the first-level cache.
constexpr std::size_t kDepth = 128;

// In one dimension: from `step` to `step` elements.

/// Bᵀ: 6 of src
template <typename R>
DCS3GD_INLINE void expand_src(const R* d, R* to, std::size_t step) {
  const R even_a = d[4] - kB2 * d[2];
  const R odd_a = d[3] - kB2 * d[1];
  const R even_b = d[4] - kA2 * d[2];
  const R odd_b = d[3] - kA2 * d[1];
  to[0] = d[4] - (kA2 + kB2) * d[2] + kA2 * kB2 * d[0];
  to[step] = even_a + kA * odd_a;
  to[2 * step] = even_a - kA * odd_a;
  to[3 * step] = even_b + kB * odd_b;
  to[4 * step] = even_b - kB * odd_b;
  to[5 * step] = d[5] - (kA2 + kB2) * d[3] + kA2 * kB2 * d[1];
}

/// A: 4 of the gradient of dst
template <typename R>
DCS3GD_INLINE void expand_diff_dst(const R* d, R* to, std::size_t step) {
  const R even_a = d[0] + kA2 * d[2];
  const R odd_a = d[1] + kA2 * d[3];
  const R even_b = d[0] + kB2 * d[2];
  const R odd_b = d[1] + kB2 * d[3];
  to[0] = d[0];
  to[step] = even_a + kA * odd_a;
  to[2 * step] = even_a - kA * odd_a;
  to[3 * step] = even_b + kB * odd_b;
  to[4 * step] = even_b - kB * odd_b;
  to[5 * step] = d[3];
}

/// Aᵀ: 6 products to 4 of dst
template <typename R>
DCS3GD_INLINE void reduce_dst(const R* m, R* to, std::size_t step) {
  const R even_a = m[1] + m[2];
  const R odd_a = kA * (m[1] - m[2]);
  const R even_b = m[3] + m[4];
  const R odd_b = kB * (m[3] - m[4]);
  to[0] = m[0] + even_a + even_b;
  to[step] = odd_a + odd_b;
  to[2 * step] = kA2 * even_a + kB2 * even_b;
  to[3 * step] = kA2 * odd_a + kB2 * odd_b + m[5];
}

/// G: 3 weights
template <typename R>
DCS3GD_INLINE void expand_weights(const R* g, R* to, std::size_t step) {
  const R even_a = kNa * g[0] + (kNa * kA2) * g[2];
  const R odd_a = (kNa * kA) * g[1];
  const R even_b = kNb * g[0] + (kNb * kB2) * g[2];
  const R odd_b = (kNb * kB) * g[1];
  to[0] = kN0 * g[0];
  to[step] = even_a + odd_a;
  to[2 * step] = even_a - odd_a;
  to[3 * step] = even_b + odd_b;
  to[4 * step] = even_b - odd_b;
  to[5 * step] = g[2];
}

/// Gᵀ: 6 products to 3 of the weights' gradient
template <typename R>
DCS3GD_INLINE void reduce_diff_weights(const R* m, R* to, std::size_t step) {
  const R even_a = m[1] + m[2];
  const R odd_a = m[1] - m[2];
  const R even_b = m[3] + m[4];
  const R odd_b = m[3] - m[4];
  to[0] = kN0 * m[0] + kNa * even_a + kNb * even_b;
  to[step] = (kNa * kA) * odd_a + (kNb * kB) * odd_b;
  to[2 * step] = (kNa * kA2) * even_a + (kNb * kB2) * even_b + m[5];
}

/// Calls visit(index from the first, image, row, column of the tile).
template <typename Visit>
DCS3GD_INLINE void for_each_tile(const TileGrid& grid, const TileRange& tiles, Visit visit) {
  std::size_t column = tiles.first % grid.columns;
  std::size_t row = tiles.first / grid.columns % grid.rows;
  std::size_t image = tiles.first / grid.columns / grid.rows;
  for (std::size_t i = 0; i < tiles.count; ++i) {
    visit(i, image, row, column);
    if (++column < grid.columns) continue;
    column = 0;
    if (++row < grid.rows) continue;
    row = 0;
    ++image;
  }
}

/// Reads kSize × kSize pixels whose first lies `before` pixels up and left of (y, x), and transforms both dimensions.
template <std::size_t kLanes, std::size_t kSize, typename Element, typename Expand>
DCS3GD_INLINE void transform_pixels(const Images& images, const Element* image, std::size_t y, std::size_t x,
                                    std::size_t before, Expand expand, float* transformed, std::size_t stride) {
  using R = Row<kLanes>;
  // Shifted by `before`, so that nothing is negative.
  const auto has_row = [&](std::size_t row) { return y + row >= before && y + row < images.height + before; };
  const auto has_column = [&](std::size_t column) {
    return x + column >= before && x + column < images.width + before;
  };
  const bool is_inside = has_row(0) && has_row(kSize - 1) && has_column(0) && has_column(kSize - 1);
  const auto pixel = [&](std::size_t row, std::size_t column) __attribute__((always_inline)) {
    return load<kLanes>(image + ((y + row - before) * images.width + (x + column - before)) * kLanes);
  };
  R half[kSide][kSize];
  for (std::size_t column = 0; column < kSize; ++column) {
    R pixels[kSize];
    for (std::size_t row = 0; row < kSize; ++row) {
      pixels[row] = is_inside || (has_row(row) && has_column(column)) ? pixel(row, column) : R{};
    }
    expand(pixels, &half[0][column], kSize);
  }
  for (std::size_t i = 0; i < kSide; ++i) {
    R whole[kSide];
    expand(half[i], whole, 1);
    for (std::size_t j = 0; j < kSide; ++j) store(whole[j], transformed + (i * kSide + j) * stride);
  }
}

template <std::size_t kLanes, typename Element>
DCS3GD_INLINE void transform_src_loop(const TileGrid& grid, const Images& images, std::size_t padding,
                                      const TileRange& tiles, const Element* src, float* transformed,
                                      std::size_t stride) {
  for_each_tile(
      grid,
      tiles, [&](std::size_t i, std::size_t image, std::size_t row, std::size_t column) __attribute__((always_inline)) {
        transform_pixels<kLanes, kSide>(
            images, src + image * images.image_stride, row * kTile, column * kTile, padding,
            [](const Row<kLanes>* from, Row<kLanes>* to, std::size_t step)
                __attribute__((always_inline)) { expand_src(from, to, step); },
            transformed + i * kLanes, stride);
      });
}

template <std::size_t kLanes, typename Element>
DCS3GD_INLINE void transform_diff_dst_loop(const TileGrid& grid, const Images& images, const TileRange& tiles,
                                           const Element* diff_dst, float* transformed, std::size_t stride,
                                           float* sum) {
  Row<kLanes> total = {};
  for_each_tile(
      grid,
      tiles, [&](std::size_t i, std::size_t image, std::size_t row, std::size_t column) __attribute__((always_inline)) {
        Row<kLanes> of_tile = {};
        transform_pixels<kLanes, kTile>(
            images, diff_dst + image * images.image_stride, row * kTile, column * kTile, 0,
            [&](const Row<kLanes>* from, Row<kLanes>* to, std::size_t step) __attribute__((always_inline)) {
              if (step > 1) of_tile += (from[0] + from[1]) + (from[2] + from[3]);
              expand_diff_dst(from, to, step);
            },
            transformed + i * kLanes, stride);
        total += of_tile;
      });
  store(load<kLanes>(sum) + total, sum);
}

template <std::size_t kLanes, typename Element>
DCS3GD_INLINE void transform_dst_loop(const TileGrid& grid, const Images& images, const TileRange& tiles,
                                      const float* products, std::size_t stride, const float* bias, Element* dst) {
  using R = Row<kLanes>;
  const R addend = bias == nullptr ? R{} : load<kLanes>(bias);
  for_each_tile(
      grid,
      tiles, [&](std::size_t i, std::size_t image, std::size_t row, std::size_t column) __attribute__((always_inline)) {
        const float* const from = products + i * kLanes;
        R half[kTile][kSide];
        for (std::size_t j = 0; j < kSide; ++j) {
          R product[kSide];
          for (std::size_t k = 0; k < kSide; ++k) product[k] = load<kLanes>(from + (k * kSide + j) * stride);
          reduce_dst(product, &half[0][j], kSide);
        }
        const std::size_t y = row * kTile;
        const std::size_t x = column * kTile;
        Element* const to = dst + image * images.image_stride + (y * images.width + x) * kLanes;
        const std::size_t height = std::min(kTile, images.height - y);
        const std::size_t width = std::min(kTile, images.width - x);
        for (std::size_t r = 0; r < height; ++r) {
          R pixels[kTile];
          reduce_dst(half[r], pixels, 1);
          Element* const line = to + r * images.width * kLanes;
          if (width == kTile) {  // the usual count as a constant
            for (std::size_t c = 0; c < kTile; ++c) store(pixels[c] + addend, line + c * kLanes);
          } else {
            for (std::size_t c = 0; c < width; ++c) store(pixels[c] + addend, line + c * kLanes);
          }
        }
      });
}

template <std::size_t kLanes>
DCS3GD_INLINE void transform_weights_loop(const KernelRows& rows, bool flipped, const float* weights,
                                          float* transformed, std::size_t stride) {
  using R = Row<kLanes>;
  for (std::size_t row = 0; row < rows.count; ++row) {
    float gathered[kKernel][kLanes] = {};
    for (std::size_t lane = 0; lane < rows.width; ++lane) {
      const float* const from = weights + row * rows.row_stride + lane * rows.lane_stride;
      for (std::size_t k = 0; k < kKernel; ++k) gathered[flipped ? kKernel - 1 - k : k][lane] = from[k];
    }
    R half[kSide][3];
    for (std::size_t column = 0; column < 3; ++column) {
      const R kernel[3] = {load<kLanes>(gathered[column]), load<kLanes>(gathered[3 + column]),
                           load<kLanes>(gathered[6 + column])};
      expand_weights(kernel, &half[0][column], 3);
    }
    for (std::size_t i = 0; i < kSide; ++i) {
      R whole[kSide];
      expand_weights(half[i], whole, 1);
      for (std::size_t j = 0; j < kSide; ++j) {
        store(whole[j], transformed + (i * kSide + j) * stride + row * kLanes);
      }
    }
  }
}

template <std::size_t kLanes>
DCS3GD_INLINE void transform_diff_weights_loop(const KernelRows& rows, const float* products, std::size_t stride,
                                               float* diff_weights) {
  using R = Row<kLanes>;
  for (std::size_t row = 0; row < rows.count; ++row) {
    R half[3][kSide];
    for (std::size_t j = 0; j < kSide; ++j) {
      R product[kSide];
      for (std::size_t k = 0; k < kSide; ++k) {
        product[k] = load<kLanes>(products + (k * kSide + j) * stride + row * kLanes);
      }
      reduce_diff_weights(product, &half[0][j], kSide);
    }
    float gathered[kKernel][kLanes];
    for (std::size_t i = 0; i < 3; ++i) {
      R kernel[3];
      reduce_diff_weights(half[i], kernel, 1);
      for (std::size_t j = 0; j < 3; ++j) store(kernel[j], gathered[i * 3 + j]);
    }
    for (std::size_t lane = 0; lane < rows.width; ++lane) {
      float* const to = diff_weights + row * rows.row_stride + lane * rows.lane_stride;
      for (std::size_t k = 0; k < kKernel; ++k) to[k] = gathered[k][lane];
    }
  }
}

/// kRows rows by kColumns blocks of columns, in registers.
template <std::size_t kLanes, std::size_t kRows, std::size_t kColumns, bool kRowsAreLanes, bool kPrefetches>
DCS3GD_INLINE void multiply_in_registers(const Product& product, const float* a, const float* b, bool accumulate,
                                         float* c) {
  using R = Row<kLanes>;
  constexpr std::size_t kRowStride = kRowsAreLanes ? 1 : kLanes;
  constexpr std::size_t kDepthStride = kRowsAreLanes ? kLanes : 1;
  R sums[kRows][kColumns] = {};
  for (std::size_t first = 0; first < product.depth; first += kLanes) {
    const std::size_t count = std::min(kLanes, product.depth - first);
    const float* const from = a + first / kLanes * (kRowsAreLanes ? kLanes * kLanes : product.a_block);
    for (std::size_t k = 0; k < count; ++k) {
      R factors[kColumns];
      for (std::size_t column = 0; column < kColumns; ++column) {
        const float* const factor = b + column * product.b_column + (first + k) * kLanes;
        factors[column] = load<kLanes>(factor);
        if (kPrefetches) __builtin_prefetch(factor + kColumns * product.b_column, 0, 2);
      }
      for (std::size_t row = 0; row < kRows; ++row) {
        const float factor = from[row * kRowStride + k * kDepthStride];
        for (std::size_t column = 0; column < kColumns; ++column) sums[row][column] += factor * factors[column];
      }
    }
  }
  for (std::size_t row = 0; row < kRows; ++row) {
    for (std::size_t column = 0; column < kColumns; ++column) {
      float* const to = c + row * kLanes + column * product.c_column;
      store(accumulate ? load<kLanes>(to) + sums[row][column] : sums[row][column], to);
    }
  }
}

template <std::size_t kLanes, std::size_t kColumns, bool kRowsAreLanes>
DCS3GD_INLINE void multiply_columns(const Product& product, const float* a, const float* b, bool accumulate, float* c) {
  std::size_t row = 0;
  const auto step = [&](auto rows, auto prefetches) __attribute__((always_inline)) {
    constexpr std::size_t kRows = decltype(rows)::value;
    const float* const from = kRowsAreLanes ? a + row / kLanes * product.a_block + row % kLanes : a + row * kLanes;
    multiply_in_registers<kLanes, kRows, kColumns, kRowsAreLanes, decltype(prefetches)::value>(
        product, from, b, accumulate, c + row * kLanes);
    row += kRows;
  };
  if constexpr (kRowsAreLanes) {
    while (product.rows - row >= 8) step(std::integral_constant<std::size_t, 8>(), std::false_type());
  } else {
    if (product.rows - row >= 12) step(std::integral_constant<std::size_t, 12>(), std::true_type());
    while (product.rows - row >= 12) step(std::integral_constant<std::size_t, 12>(), std::false_type());
    if (product.rows - row == 8) step(std::integral_constant<std::size_t, 8>(), std::false_type());
  }
  if (product.rows - row >= 4) step(std::integral_constant<std::size_t, 4>(), std::false_type());
}

template <std::size_t kLanes, bool kRowsAreLanes>
DCS3GD_INLINE void multiply_loop(const Product& whole, const float* a, const float* b, bool accumulate, float* c) {
  for (std::size_t first = 0; first < whole.depth; first += kDepth) {
    Product product = whole;
    product.depth = std::min(kDepth, whole.depth - first);
    const float* const from_a = a + first / kLanes * (kRowsAreLanes ? kLanes * kLanes : whole.a_block);
    const float* const from_b = b + first * kLanes;
    const bool adds = accumulate || first > 0;
    std::size_t column = 0;
    for (; column + 2 <= product.columns; column += 2) {
      multiply_columns<kLanes, 2, kRowsAreLanes>(product, from_a, from_b + column * product.b_column, adds,
                                                 c + column * product.c_column);
    }
    if (column < product.columns) {
      multiply_columns<kLanes, 1, kRowsAreLanes>(product, from_a, from_b + column * product.b_column, adds,
                                                 c + column * product.c_column);
    }
  }
}

}  // namespace

// The compiler clones functions, not templates: each stands here once for each element.

DCS3GD_SIMD_CLONES
void transform_src(std::size_t lanes, const TileGrid& grid, const Images& images, std::size_t padding,
                   const TileRange& tiles, const float* src, float* transformed, std::size_t stride) {
  if (lanes == 16) return transform_src_loop<16>(grid, images, padding, tiles, src, transformed, stride);
  transform_src_loop<8>(grid, images, padding, tiles, src, transformed, stride);
}
DCS3GD_SIMD_CLONES
void transform_src(std::size_t lanes, const TileGrid& grid, const Images& images, std::size_t padding,
                   const TileRange& tiles, const Bf16* src, float* transformed, std::size_t stride) {
  if (lanes == 16) return transform_src_loop<16>(grid, images, padding, tiles, src, transformed, stride);
  transform_src_loop<8>(grid, images, padding, tiles, src, transformed, stride);
}

DCS3GD_SIMD_CLONES
void transform_diff_dst(std::size_t lanes, const TileGrid& grid, const Images& images, const TileRange& tiles,
                        const float* diff_dst, float* transformed, std::size_t stride, float* sum) {
  if (lanes == 16) return transform_diff_dst_loop<16>(grid, images, tiles, diff_dst, transformed, stride, sum);
  transform_diff_dst_loop<8>(grid, images, tiles, diff_dst, transformed, stride, sum);
}
DCS3GD_SIMD_CLONES
void transform_diff_dst(std::size_t lanes, const TileGrid& grid, const Images& images, const TileRange& tiles,
                        const Bf16* diff_dst, float* transformed, std::size_t stride, float* sum) {
  if (lanes == 16) return transform_diff_dst_loop<16>(grid, images, tiles, diff_dst, transformed, stride, sum);
  transform_diff_dst_loop<8>(grid, images, tiles, diff_dst, transformed, stride, sum);
}

DCS3GD_SIMD_CLONES
void transform_dst(std::size_t lanes, const TileGrid& grid, const Images& images, const TileRange& tiles,
                   const float* products, std::size_t stride, const float* bias, float* dst) {
  if (lanes == 16) return transform_dst_loop<16>(grid, images, tiles, products, stride, bias, dst);
  transform_dst_loop<8>(grid, images, tiles, products, stride, bias, dst);
}
DCS3GD_SIMD_CLONES
void transform_dst(std::size_t lanes, const TileGrid& grid, const Images& images, const TileRange& tiles,
                   const float* products, std::size_t stride, const float* bias, Bf16* dst) {
  if (lanes == 16) return transform_dst_loop<16>(grid, images, tiles, products, stride, bias, dst);
  transform_dst_loop<8>(grid, images, tiles, products, stride, bias, dst);
}

DCS3GD_SIMD_CLONES
void transform_weights(std::size_t lanes, const KernelRows& rows, bool flipped, const float* weights,
                       float* transformed, std::size_t stride) {
  if (lanes == 16) return transform_weights_loop<16>(rows, flipped, weights, transformed, stride);
  transform_weights_loop<8>(rows, flipped, weights, transformed, stride);
}

DCS3GD_SIMD_CLONES
void transform_diff_weights(std::size_t lanes, const KernelRows& rows, const float* products, std::size_t stride,
                            float* diff_weights) {
  if (lanes == 16) return transform_diff_weights_loop<16>(rows, products, stride, diff_weights);
  transform_diff_weights_loop<8>(rows, products, stride, diff_weights);
}

DCS3GD_SIMD_CLONES
void multiply(std::size_t lanes, const Product& product, const float* a, const float* b, bool accumulate, float* c) {
  if (lanes == 16) {
    if (product.rows_are_lanes) return multiply_loop<16, true>(product, a, b, accumulate, c);
    return multiply_loop<16, false>(product, a, b, accumulate, c);
  }
  if (product.rows_are_lanes) return multiply_loop<8, true>(product, a, b, accumulate, c);
  multiply_loop<8, false>(product, a, b, accumulate, c);
}

}  // namespace dcs3gd::nn::winograd
