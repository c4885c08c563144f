#include "nn/kernels/batch_norm_rows.h"

#include <cstdint>
#include <type_traits>

#include "core/simd.h"
#include "nn/kernels/vectors.h"

namespace dcs3gd::nn::batch_norm {
namespace {

using Row = Vector<kLanes>::Row;
using Bits = Vector<kLanes>::Bits;

DCS3GD_INLINE Row load(const float* from) { return nn::load<kLanes>(from); }

constexpr std::uint32_t kUpperHalf = 0xFFFF0000;

/// kVectors registers with the values of one or two rows.
template <std::size_t kVectors>
struct Group {
  Row vectors[kVectors] = {};
};

/// One row.
struct Single {
  static constexpr std::size_t kRows = 1;
  static constexpr std::size_t kVectors = 1;

  template <typename Element>
  DCS3GD_INLINE static Group<1> load_rows(const Element* from) {
    return {{nn::load<kLanes>(from)}};
  }
  template <typename Element>
  DCS3GD_INLINE static void store_rows(const Group<1>& rows, Element* to) {
    store(rows.vectors[0], to);
  }
  template <typename Element>
  DCS3GD_INLINE static Group<1> coefficients(const float* lanes) {
    return {{load(lanes)}};
  }
  template <typename Element>
  DCS3GD_INLINE static void add_sums(const Group<1>& sums, float* lanes) {
    store(load(lanes) + sums.vectors[0], lanes);
  }
};

/// Two rows. In bf16 their even channels stand in one vector and their odd ones in the other: widening and narrowing
/// are then a shift and a mask, where a row by itself would have to be spread over twice the register.
struct Pair {
  static constexpr std::size_t kRows = 2;
  static constexpr std::size_t kVectors = 2;

  DCS3GD_INLINE static Group<2> load_rows(const float* from) { return {{load(from), load(from + kLanes)}}; }
  DCS3GD_INLINE static Group<2> load_rows(const Bf16* from) {
    const Bits both = *reinterpret_cast<const Vector<kLanes>::UnalignedBits*>(from);
    return {{reinterpret_cast<Row>(both << 16), reinterpret_cast<Row>(both & kUpperHalf)}};
  }
  DCS3GD_INLINE static void store_rows(const Group<2>& rows, float* to) {
    store(rows.vectors[0], to);
    store(rows.vectors[1], to + kLanes);
  }
  DCS3GD_INLINE static void store_rows(const Group<2>& rows, Bf16* to) {
    *reinterpret_cast<Vector<kLanes>::UnalignedBits*>(to) =
        (rounded_to_bf16(rows.vectors[0]) >> 16) | (rounded_to_bf16(rows.vectors[1]) & kUpperHalf);
  }
  template <typename Element>
  DCS3GD_INLINE static Group<2> coefficients(const float* lanes) {
    const Row row = load(lanes);
    if constexpr (std::is_same_v<Element, float>) {
      return {{row, row}};
    } else {
      return {{__builtin_shufflevector(row, row, 0, 2, 4, 6, 8, 10, 12, 14, 0, 2, 4, 6, 8, 10, 12, 14),
               __builtin_shufflevector(row, row, 1, 3, 5, 7, 9, 11, 13, 15, 1, 3, 5, 7, 9, 11, 13, 15)}};
    }
  }
  template <typename Element>
  DCS3GD_INLINE static void add_sums(const Group<2>& sums, float* lanes) {
    const Row& even = sums.vectors[0];
    const Row& odd = sums.vectors[1];
    if constexpr (std::is_same_v<Element, float>) {
      store(load(lanes) + (even + odd), lanes);
    } else {
      store(load(lanes) +
                (__builtin_shufflevector(even, odd, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23) +
                 __builtin_shufflevector(even, odd, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)),
            lanes);
    }
  }
};

/// Calls loop(access, first row, end): pairs, then the row that is left.
template <typename Loop>
DCS3GD_INLINE void in_pairs(std::size_t rows, Loop loop) {
  const std::size_t paired = rows / Pair::kRows * Pair::kRows;
  loop(Pair{}, std::size_t{0}, paired);
  if (paired < rows) loop(Single{}, paired, rows);
}

template <typename Access, typename Element>
DCS3GD_INLINE void sum_loop(const Element* x, std::size_t first, std::size_t end, float* sum) {
  // Two sums for each vector: an addition takes longer than a load.
  Group<Access::kVectors> total;
  Group<Access::kVectors> other_total;
  for (std::size_t row = first; row < end; row += 2 * Access::kRows) {
    const auto rows = Access::load_rows(x + row * kLanes);
    for (std::size_t v = 0; v < Access::kVectors; ++v) total.vectors[v] += rows.vectors[v];
    if (row + Access::kRows >= end) break;
    const auto others = Access::load_rows(x + (row + Access::kRows) * kLanes);
    for (std::size_t v = 0; v < Access::kVectors; ++v) other_total.vectors[v] += others.vectors[v];
  }
  for (std::size_t v = 0; v < Access::kVectors; ++v) total.vectors[v] += other_total.vectors[v];
  Access::template add_sums<Element>(total, sum);
}

template <typename Access, typename Element>
DCS3GD_INLINE void squared_deviations_loop(const Element* x, std::size_t first, std::size_t end, const float* mean,
                                           float* sum) {
  const auto center = Access::template coefficients<Element>(mean);
  Group<Access::kVectors> total;
  for (std::size_t row = first; row < end; row += Access::kRows) {
    const auto rows = Access::load_rows(x + row * kLanes);
    for (std::size_t v = 0; v < Access::kVectors; ++v) {
      const Row deviation = rows.vectors[v] - center.vectors[v];
      total.vectors[v] += deviation * deviation;
    }
  }
  Access::template add_sums<Element>(total, sum);
}

template <typename Access, typename Element>
DCS3GD_INLINE void normalise_loop(const Rows<Element>& rows, std::size_t first, std::size_t end,
                                  const Normalisation& normalisation, bool relu, Element* dst) {
  const auto mean = Access::template coefficients<Element>(normalisation.mean);
  const auto scale = Access::template coefficients<Element>(normalisation.scale);
  const auto shift = Access::template coefficients<Element>(normalisation.shift);
  for (std::size_t i = first * kLanes; i < end * kLanes; i += Access::kRows * kLanes) {
    auto values = Access::load_rows(rows.src + i);
    Group<Access::kVectors> addend;
    if (rows.addend != nullptr) addend = Access::load_rows(rows.addend + i);
    for (std::size_t v = 0; v < Access::kVectors; ++v) {
      Row value = (values.vectors[v] - mean.vectors[v]) * scale.vectors[v] + shift.vectors[v];
      if (rows.addend != nullptr) value += addend.vectors[v];
      if (relu) value = value < 0 ? Row{} : value;
      values.vectors[v] = value;
    }
    Access::store_rows(values, dst + i);
  }
}

template <typename Access, typename Element>
DCS3GD_INLINE void reduce_loop(const Rows<Element>& rows, std::size_t first, std::size_t end,
                               const Normalisation& normalisation, bool relu, const GradientRows<Element>& diff_dst,
                               float* sum, float* sum_src) {
  const auto mean = Access::template coefficients<Element>(normalisation.mean);
  const auto scale = Access::template coefficients<Element>(normalisation.scale);
  const auto shift = Access::template coefficients<Element>(normalisation.shift);
  Group<Access::kVectors> total;
  Group<Access::kVectors> total_src;
  for (std::size_t i = first * kLanes; i < end * kLanes; i += Access::kRows * kLanes) {
    const auto src = Access::load_rows(rows.src + i);
    auto gradients = Access::load_rows(diff_dst.part + i);
    Group<Access::kVectors> other_part;
    Group<Access::kVectors> addend;
    if (diff_dst.other_part != nullptr) other_part = Access::load_rows(diff_dst.other_part + i);
    if (rows.addend != nullptr) addend = Access::load_rows(rows.addend + i);
    for (std::size_t v = 0; v < Access::kVectors; ++v) {
      const Row deviation = src.vectors[v] - mean.vectors[v];
      Row gradient = gradients.vectors[v];
      if (diff_dst.other_part != nullptr) gradient += other_part.vectors[v];
      if (relu) {
        Row value = deviation * scale.vectors[v] + shift.vectors[v];
        if (rows.addend != nullptr) value += addend.vectors[v];
        gradient = value <= 0 ? Row{} : gradient;
      }
      gradients.vectors[v] = gradient;
      total.vectors[v] += gradient;
      total_src.vectors[v] += gradient * deviation;
    }
    if (diff_dst.written != nullptr) Access::store_rows(gradients, diff_dst.written + i);
  }
  Access::template add_sums<Element>(total, sum);
  Access::template add_sums<Element>(total_src, sum_src);
}

template <typename Access, typename Element>
DCS3GD_INLINE void differentiate_loop(const Rows<Element>& rows, std::size_t first, std::size_t end,
                                      const Normalisation& normalisation, bool relu, const Element* diff_dst,
                                      const SourceGradient& coefficients, Element* diff_src) {
  const auto mean = Access::template coefficients<Element>(normalisation.mean);
  const auto scale = Access::template coefficients<Element>(normalisation.scale);
  const auto shift = Access::template coefficients<Element>(normalisation.shift);
  const auto of_gradient = Access::template coefficients<Element>(coefficients.of_gradient);
  const auto of_src = Access::template coefficients<Element>(coefficients.of_src);
  const auto constant = Access::template coefficients<Element>(coefficients.constant);
  for (std::size_t i = first * kLanes; i < end * kLanes; i += Access::kRows * kLanes) {
    const auto src = Access::load_rows(rows.src + i);
    auto gradients = Access::load_rows(diff_dst + i);
    for (std::size_t v = 0; v < Access::kVectors; ++v) {
      const Row deviation = src.vectors[v] - mean.vectors[v];
      Row gradient = gradients.vectors[v];
      if (relu) gradient = deviation * scale.vectors[v] + shift.vectors[v] <= 0 ? Row{} : gradient;
      gradients.vectors[v] = of_gradient.vectors[v] * gradient + of_src.vectors[v] * deviation + constant.vectors[v];
    }
    Access::store_rows(gradients, diff_src + i);
  }
}

}  // namespace

// The compiler clones functions, not templates: each stands here once for each element.

DCS3GD_SIMD_CLONES
void sum_rows(const float* x, std::size_t count, float* sum) {
  in_pairs(
      count, [&](auto access, std::size_t first, std::size_t end)
                 __attribute__((always_inline)) { sum_loop<decltype(access)>(x, first, end, sum); });
}
DCS3GD_SIMD_CLONES
void sum_rows(const Bf16* x, std::size_t count, float* sum) {
  in_pairs(
      count, [&](auto access, std::size_t first, std::size_t end)
                 __attribute__((always_inline)) { sum_loop<decltype(access)>(x, first, end, sum); });
}

DCS3GD_SIMD_CLONES
void add_squared_deviations(const float* x, std::size_t count, const float* mean, float* sum) {
  in_pairs(
      count, [&](auto access, std::size_t first, std::size_t end) __attribute__((always_inline)) {
        squared_deviations_loop<decltype(access)>(x, first, end, mean, sum);
      });
}
DCS3GD_SIMD_CLONES
void add_squared_deviations(const Bf16* x, std::size_t count, const float* mean, float* sum) {
  in_pairs(
      count, [&](auto access, std::size_t first, std::size_t end) __attribute__((always_inline)) {
        squared_deviations_loop<decltype(access)>(x, first, end, mean, sum);
      });
}

DCS3GD_SIMD_CLONES
void normalise_rows(const Rows<float>& rows, const Normalisation& normalisation, bool relu, float* dst) {
  in_pairs(
      rows.count, [&](auto access, std::size_t first, std::size_t end) __attribute__((always_inline)) {
        normalise_loop<decltype(access)>(rows, first, end, normalisation, relu, dst);
      });
}
DCS3GD_SIMD_CLONES
void normalise_rows(const Rows<Bf16>& rows, const Normalisation& normalisation, bool relu, Bf16* dst) {
  in_pairs(
      rows.count, [&](auto access, std::size_t first, std::size_t end) __attribute__((always_inline)) {
        normalise_loop<decltype(access)>(rows, first, end, normalisation, relu, dst);
      });
}

DCS3GD_SIMD_CLONES
void reduce_rows(const Rows<float>& rows, const Normalisation& normalisation, bool relu,
                 const GradientRows<float>& diff_dst, float* sum, float* sum_src) {
  in_pairs(
      rows.count, [&](auto access, std::size_t first, std::size_t end) __attribute__((always_inline)) {
        reduce_loop<decltype(access)>(rows, first, end, normalisation, relu, diff_dst, sum, sum_src);
      });
}
DCS3GD_SIMD_CLONES
void reduce_rows(const Rows<Bf16>& rows, const Normalisation& normalisation, bool relu,
                 const GradientRows<Bf16>& diff_dst, float* sum, float* sum_src) {
  in_pairs(
      rows.count, [&](auto access, std::size_t first, std::size_t end) __attribute__((always_inline)) {
        reduce_loop<decltype(access)>(rows, first, end, normalisation, relu, diff_dst, sum, sum_src);
      });
}

DCS3GD_SIMD_CLONES
void differentiate_rows(const Rows<float>& rows, const Normalisation& normalisation, bool relu, const float* diff_dst,
                        const SourceGradient& coefficients, float* diff_src) {
  in_pairs(
      rows.count, [&](auto access, std::size_t first, std::size_t end) __attribute__((always_inline)) {
        differentiate_loop<decltype(access)>(rows, first, end, normalisation, relu, diff_dst, coefficients, diff_src);
      });
}
DCS3GD_SIMD_CLONES
void differentiate_rows(const Rows<Bf16>& rows, const Normalisation& normalisation, bool relu, const Bf16* diff_dst,
                        const SourceGradient& coefficients, Bf16* diff_src) {
  in_pairs(
      rows.count, [&](auto access, std::size_t first, std::size_t end) __attribute__((always_inline)) {
        differentiate_loop<decltype(access)>(rows, first, end, normalisation, relu, diff_dst, coefficients, diff_src);
      });
}

}  // namespace dcs3gd::nn::batch_norm
