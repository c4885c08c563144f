#include "nn/kernels/winograd.h"

#include <algorithm>

#include <omp.h>

#include "nn/kernels/winograd_tiles.h"

namespace dcs3gd::nn {
namespace {

using winograd::Images;
using winograd::kPositions;
using winograd::kTile;
using winograd::TileGrid;
using winograd::TileRange;

constexpr std::size_t kKernel = 9;

std::size_t divide_up(std::size_t value, std::size_t by) { return (value + by - 1) / by; }
std::size_t round_up(std::size_t value, std::size_t to) { return divide_up(value, to) * to; }

/// The part of some things that belongs to one of `count` sharers.
struct Share {
  std::size_t index = 0;
  std::size_t count = 1;

  std::size_t first(std::size_t things) const { return things * index / count; }
  std::size_t end(std::size_t things) const { return things * (index + 1) / count; }

  /// Calls visit(outer, first inner, count) for the part of outer × inner things, run by run of neighbours in `inner`.
  template <typename Visit>
  void for_each_run(std::size_t outer, std::size_t inner, Visit visit) const {
    for (std::size_t at = first(outer * inner); at < end(outer * inner);) {
      const std::size_t run = std::min(end(outer * inner) - at, inner - at % inner);
      visit(at / inner, at % inner, run);
      at += run;
    }
  }
};

Share share_of_this_thread() {
  return {static_cast<std::size_t>(omp_get_thread_num()), static_cast<std::size_t>(omp_get_num_threads())};
}

/// An activation as blocks of lanes.
struct Blocks {
  Blocks(const Winograd::Shape& shape, const Winograd::Activation& activation)
      : count(divide_up(activation.channels, shape.lanes)),
        stored_channels(count * shape.lanes),
        channels(activation.channels),
        stride(activation.height * activation.width * shape.lanes),
        images{activation.height, activation.width, count * stride} {}

  std::size_t count;
  std::size_t stored_channels;
  std::size_t channels;
  std::size_t stride;
  Images images;
};

/// From position to position: not a power of two, or they would all share a few sets of the caches.
std::size_t position_stride(std::size_t elements) { return elements + 16; }

/// Forward, and backward data, which is the same from diff_dst to diff_src with weights turned round: multiplies
/// transformed tiles by transformed weights.
class TilesTimesWeights {
 public:
  TilesTimesWeights(const Winograd::Shape& shape, bool backward, std::size_t threads)
      : lanes_(shape.lanes),
        src_(shape, backward ? shape.dst : shape.src),
        dst_(shape, backward ? shape.src : shape.dst),
        backward_(backward),
        padding_(backward ? 2 - shape.padding : shape.padding),
        threads_(threads),
        grid_{divide_up(dst_.images.height, kTile), divide_up(dst_.images.width, kTile)},
        tiles_(shape.images * grid_.rows * grid_.columns),
        weights_stride_(position_stride(src_.stored_channels * dst_.stored_channels)) {
    // Tiles between their transforms stay in the second-level cache; where the weights do not fit the third, it takes
    // more tiles to make up for reading them.
    constexpr std::size_t kLargeWeights = 4U << 20U;
    const std::size_t most = kPositions * weights_stride_ > kLargeWeights ? 128 : 48;
    together_ = tiles_ < most * threads_;
    const std::size_t blocks = together_ ? 1 : round_up(divide_up(tiles_, most), threads_);
    block_ = round_up(divide_up(tiles_, blocks), winograd::kRowMultiple);
    src_stride_ = position_stride(src_.count * block_ * lanes_);
    dst_stride_ = position_stride(dst_.count * block_ * lanes_);
  }

  std::size_t scratch() const {
    return dst_.stored_channels + kPositions * (weights_stride_ + teams() * (src_stride_ + dst_stride_));
  }

  template <typename Element>
  void run(const Element* src, const float* weights, const float* bias, Element* dst, float* scratch) const {
    float* const padded_bias = bias == nullptr ? nullptr : scratch;
    if (bias != nullptr) {
      std::fill(std::copy_n(bias, dst_.channels, scratch), scratch + dst_.stored_channels, 0.0F);
    }
    float* const transformed_weights = scratch + dst_.stored_channels;
    float* const of_teams = transformed_weights + kPositions * weights_stride_;
#pragma omp parallel num_threads(static_cast <int>(threads_))
    {
      const Share share = share_of_this_thread();
      transform_weights(share, weights, transformed_weights);
#pragma omp barrier
      if (together_) {
        float* const products = of_teams + kPositions * src_stride_;
        transform_src(share, {0, tiles_}, src, of_teams);
#pragma omp barrier
        multiply(share, tiles_, of_teams, transformed_weights, products);
#pragma omp barrier
        transform_dst(share, {0, tiles_}, products, padded_bias, dst);
      } else {
        float* const transformed = of_teams + share.index * kPositions * (src_stride_ + dst_stride_);
        float* const products = transformed + kPositions * src_stride_;
        const std::size_t blocks = divide_up(tiles_, block_);
        for (std::size_t block = share.first(blocks); block < share.end(blocks); ++block) {
          const TileRange tiles{block * block_, std::min(block_, tiles_ - block * block_)};
          transform_src({}, tiles, src, transformed);
          multiply({}, tiles.count, transformed, transformed_weights, products);
          transform_dst({}, tiles, products, padded_bias, dst);
        }
      }
    }
  }

 private:
  std::size_t teams() const { return together_ ? 1 : threads_; }

  void transform_weights(const Share& share, const float* weights, float* transformed) const {
    const std::size_t src_step = kKernel * (backward_ ? dst_.channels : 1);
    const std::size_t dst_step = kKernel * (backward_ ? 1 : src_.channels);
    share.for_each_run(dst_.count, src_.stored_channels, [&](std::size_t block, std::size_t first, std::size_t count) {
      float* const to = transformed + (block * src_.stored_channels + first) * lanes_;
      const std::size_t rows = std::min(first + count, src_.channels) - std::min(first, src_.channels);
      winograd::transform_weights(lanes_,
                                  {.count = rows,
                                   .width = std::min(lanes_, dst_.channels - block * lanes_),
                                   .row_stride = src_step,
                                   .lane_stride = dst_step},
                                  backward_, weights + block * lanes_ * dst_step + first * src_step, to,
                                  weights_stride_);
      for (std::size_t position = 0; position < kPositions; ++position) {
        std::fill_n(to + position * weights_stride_ + rows * lanes_, (count - rows) * lanes_, 0.0F);
      }
    });
  }

  template <typename Element>
  void transform_src(const Share& share, const TileRange& tiles, const Element* src, float* transformed) const {
    share.for_each_run(src_.count, tiles.count, [&](std::size_t block, std::size_t first, std::size_t count) {
      winograd::transform_src(lanes_, grid_, src_.images, padding_, {tiles.first + first, count},
                              src + block * src_.stride, transformed + (block * block_ + first) * lanes_, src_stride_);
    });
  }

  void multiply(const Share& share, std::size_t tiles, const float* transformed, const float* weights,
                float* products) const {
    const std::size_t weights_block = src_.stored_channels * lanes_;
    share.for_each_run(kPositions, dst_.count, [&](std::size_t position, std::size_t first, std::size_t count) {
      winograd::multiply(lanes_,
                         {.rows = round_up(tiles, winograd::kRowMultiple),
                          .columns = count,
                          .depth = src_.stored_channels,
                          .rows_are_lanes = false,
                          .a_block = block_ * lanes_,
                          .b_column = weights_block,
                          .c_column = block_ * lanes_},
                         transformed + position * src_stride_,
                         weights + position * weights_stride_ + first * weights_block, false,
                         products + position * dst_stride_ + first * block_ * lanes_);
    });
  }

  template <typename Element>
  void transform_dst(const Share& share, const TileRange& tiles, const float* products, const float* bias,
                     Element* dst) const {
    share.for_each_run(dst_.count, tiles.count, [&](std::size_t block, std::size_t first, std::size_t count) {
      winograd::transform_dst(lanes_, grid_, dst_.images, {tiles.first + first, count},
                              products + (block * block_ + first) * lanes_, dst_stride_,
                              bias == nullptr ? nullptr : bias + block * lanes_, dst + block * dst_.stride);
    });
  }

  std::size_t lanes_;
  Blocks src_, dst_;
  bool backward_;
  std::size_t padding_;
  std::size_t threads_;
  TileGrid grid_;
  std::size_t tiles_;
  std::size_t weights_stride_;
  bool together_ = false;  ///< all threads share one block: there are too few tiles for one each
  std::size_t block_ = 0;  ///< tiles
  std::size_t src_stride_ = 0;
  std::size_t dst_stride_ = 0;
};

/// Backward weights: multiplies transformed tiles of src by those of diff_dst and sums over the tiles. All threads work
/// on one block of tiles after the other, so that the sums, larger than the weights, stand in memory once.
class TilesTimesTiles {
 public:
  TilesTimesTiles(const Winograd::Shape& shape, std::size_t threads)
      : lanes_(shape.lanes),
        src_(shape, shape.src),
        dst_(shape, shape.dst),
        padding_(shape.padding),
        threads_(threads),
        grid_{divide_up(shape.dst.height, kTile), divide_up(shape.dst.width, kTile)},
        tiles_(shape.images * grid_.rows * grid_.columns) {
    // Enough to make up for adding to the sums, and for waiting for each other.
    const std::size_t most = 64 * std::max<std::size_t>(threads_, 2);
    block_ = divide_up(tiles_, divide_up(tiles_, most));
    src_stride_ = position_stride(src_.count * block_ * lanes_);
    dst_stride_ = position_stride(dst_.count * block_ * lanes_);
    weights_stride_ = position_stride(src_.stored_channels * dst_.stored_channels);
  }

  std::size_t scratch() const {
    return kPositions * (weights_stride_ + src_stride_ + dst_stride_) + threads_ * dst_.stored_channels;
  }

  template <typename Element>
  void run(const Element* src, const Element* diff_dst, float* diff_weights, float* diff_bias, float* scratch) const {
    float* const products = scratch;
    float* const transformed_src = products + kPositions * weights_stride_;
    float* const transformed_dst = transformed_src + kPositions * src_stride_;
    float* const bias_sums = transformed_dst + kPositions * dst_stride_;
#pragma omp parallel num_threads(static_cast <int>(threads_))
    {
      const Share share = share_of_this_thread();
      float* const bias_sum = bias_sums + share.index * dst_.stored_channels;
      std::fill_n(bias_sum, dst_.stored_channels, 0.0F);
      for (std::size_t first = 0; first < tiles_; first += block_) {
        const TileRange tiles{first, std::min(block_, tiles_ - first)};
        transform(share, tiles, src, diff_dst, transformed_src, transformed_dst, bias_sum);
#pragma omp barrier
        multiply(share, tiles.count, transformed_src, transformed_dst, first > 0, products);
#pragma omp barrier
      }
      transform_back(share, products, diff_weights);
      if (diff_bias != nullptr) {
        for (std::size_t channel = share.first(dst_.channels); channel < share.end(dst_.channels); ++channel) {
          diff_bias[channel] = 0;
          for (std::size_t thread = 0; thread < share.count; ++thread) {
            diff_bias[channel] += bias_sums[thread * dst_.stored_channels + channel];
          }
        }
      }
    }
  }

 private:
  template <typename Element>
  void transform(const Share& share, const TileRange& tiles, const Element* src, const Element* diff_dst,
                 float* transformed_src, float* transformed_dst, float* bias_sum) const {
    share.for_each_run(src_.count, tiles.count, [&](std::size_t block, std::size_t first, std::size_t count) {
      winograd::transform_src(lanes_, grid_, src_.images, padding_, {tiles.first + first, count},
                              src + block * src_.stride, transformed_src + (block * block_ + first) * lanes_,
                              src_stride_);
    });
    share.for_each_run(dst_.count, tiles.count, [&](std::size_t block, std::size_t first, std::size_t count) {
      winograd::transform_diff_dst(lanes_, grid_, dst_.images, {tiles.first + first, count},
                                   diff_dst + block * dst_.stride, transformed_dst + (block * block_ + first) * lanes_,
                                   dst_stride_, bias_sum + block * lanes_);
    });
  }

  void multiply(const Share& share, std::size_t tiles, const float* src, const float* diff_dst, bool accumulate,
                float* products) const {
    const std::size_t products_block = src_.stored_channels * lanes_;
    share.for_each_run(kPositions, dst_.count, [&](std::size_t position, std::size_t first, std::size_t count) {
      winograd::multiply(lanes_,
                         {.rows = src_.stored_channels,
                          .columns = count,
                          .depth = tiles,
                          .rows_are_lanes = true,
                          .a_block = block_ * lanes_,
                          .b_column = block_ * lanes_,
                          .c_column = products_block},
                         src + position * src_stride_, diff_dst + position * dst_stride_ + first * block_ * lanes_,
                         accumulate, products + position * weights_stride_ + first * products_block);
    });
  }

  void transform_back(const Share& share, const float* products, float* diff_weights) const {
    share.for_each_run(dst_.count, src_.channels, [&](std::size_t block, std::size_t first, std::size_t count) {
      winograd::transform_diff_weights(lanes_,
                                       {.count = count,
                                        .width = std::min(lanes_, dst_.channels - block * lanes_),
                                        .row_stride = kKernel,
                                        .lane_stride = kKernel * src_.channels},
                                       products + (block * src_.stored_channels + first) * lanes_, weights_stride_,
                                       diff_weights + kKernel * (block * lanes_ * src_.channels + first));
    });
  }

  std::size_t lanes_;
  Blocks src_, dst_;
  std::size_t padding_;
  std::size_t threads_;
  TileGrid grid_;
  std::size_t tiles_;
  std::size_t block_ = 0;  ///< tiles
  std::size_t src_stride_ = 0;
  std::size_t dst_stride_ = 0;
  std::size_t weights_stride_ = 0;
};

}  // namespace

Winograd::Winograd(const Shape& shape, int threads) : shape_(shape), threads_(static_cast<std::size_t>(threads)) {}

std::size_t Winograd::forward_scratch() const { return TilesTimesWeights(shape_, false, threads_).scratch(); }

std::size_t Winograd::backward_data_scratch() const { return TilesTimesWeights(shape_, true, threads_).scratch(); }

std::size_t Winograd::backward_weights_scratch() const { return TilesTimesTiles(shape_, threads_).scratch(); }

void Winograd::forward(const void* src, const float* weights, const float* bias, void* dst, float* scratch) const {
  with_element(shape_.precision, [&](auto element) {
    using Element = decltype(element);
    TilesTimesWeights(shape_, false, threads_)
        .run(static_cast<const Element*>(src), weights, bias, static_cast<Element*>(dst), scratch);
  });
}

void Winograd::backward_data(const void* diff_dst, const float* weights, void* diff_src, float* scratch) const {
  with_element(shape_.precision, [&](auto element) {
    using Element = decltype(element);
    TilesTimesWeights(shape_, true, threads_)
        .run(static_cast<const Element*>(diff_dst), weights, nullptr, static_cast<Element*>(diff_src), scratch);
  });
}

void Winograd::backward_weights(const void* src, const void* diff_dst, float* diff_weights, float* diff_bias,
                                float* scratch) const {
  with_element(shape_.precision, [&](auto element) {
    using Element = decltype(element);
    TilesTimesTiles(shape_, threads_)
        .run(static_cast<const Element*>(src), static_cast<const Element*>(diff_dst), diff_weights, diff_bias, scratch);
  });
}

}  // namespace dcs3gd::nn
