#include "data/transform/resample.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include <immintrin.h>

namespace dcs3gd::data {
namespace {

/// Weights are fixed-point numbers with this many fraction bits: the largest for which 1 fits 16 bits signed.
constexpr int kWeightBits = 14;
constexpr int kHalf = 1 << (kWeightBits - 1);

/// The source pixels first … first + count − 1 that make up one target pixel, along one axis.
struct Taps {
  int first = 0;
  int pairs = 0;            ///< of taps; an odd last one has a partner of weight 0
  std::size_t weights = 0;  ///< index of the first weight
};

/// What resampling along one axis does, for the target pixels of the window.
struct Axis {
  std::vector<Taps> taps;
  std::vector<std::int16_t> weights;  ///< two per pair
};

/// `begin` and `length`: the source area; `held`: source pixels in memory.
Axis make_axis(double begin, double length, int held, int scaled, int window_begin, int window_length) {
  const double scale = length / scaled;
  const double support = std::max(scale, 1.0);
  const int lowest = std::clamp(static_cast<int>(std::floor(begin)), 0, held - 1);
  const int highest = std::clamp(static_cast<int>(std::ceil(begin + length)), lowest + 1, held);
  Axis axis;
  std::vector<double> shares;
  for (int target = window_begin; target < window_begin + window_length; ++target) {
    const double center = begin + (target + 0.5) * scale;
    const int first = std::clamp(static_cast<int>(std::floor(center - support + 0.5)), lowest, highest - 1);
    const int last = std::clamp(static_cast<int>(std::floor(center + support + 0.5)), first + 1, highest);
    shares.clear();
    double sum = 0;
    for (int source = first; source < last; ++source) {
      shares.push_back(std::max(0.0, 1.0 - std::abs(source + 0.5 - center) / support));
      sum += shares.back();
    }
    if (sum == 0) sum = shares.front() = 1;
    if (shares.size() % 2 == 1) shares.push_back(0);
    axis.taps.push_back({first, static_cast<int>(shares.size() / 2), axis.weights.size()});
    for (const double share : shares) {
      axis.weights.push_back(static_cast<std::int16_t>(std::lround(share / sum * (1 << kWeightBits))));
    }
  }
  return axis;
}

/// The two weights of a pair, four times.
__m128i pair_of_weights(const std::int16_t* weights) {
  std::int32_t both = 0;
  std::memcpy(&both, weights, sizeof(both));
  return _mm_set1_epi32(both);
}

/// 16 sums, which have the weights' point, as clamped bytes.
__m128i to_bytes(__m128i a, __m128i b, __m128i c, __m128i d) {
  return _mm_packus_epi16(_mm_packs_epi32(_mm_srai_epi32(a, kWeightBits), _mm_srai_epi32(b, kWeightBits)),
                          _mm_packs_epi32(_mm_srai_epi32(c, kWeightBits), _mm_srai_epi32(d, kWeightBits)));
}

/// One target row: the weighted sum of source rows. `row_bytes` and the rows may be read up to the next multiple of 16.
void blend_rows(const Taps& taps, const std::int16_t* weights, const std::uint8_t* pixels, std::size_t row_bytes,
                int held_rows, std::size_t begin_byte, std::size_t end_byte, std::uint8_t* target) {
  const __m128i zero = _mm_setzero_si128();
  for (std::size_t at = begin_byte; at < end_byte; at += sizeof(__m128i)) {
    const __m128i half = _mm_set1_epi32(kHalf);
    __m128i sums[4] = {half, half, half, half};
    for (int pair = 0; pair < taps.pairs; ++pair) {
      const int upper = taps.first + 2 * pair;
      const int lower = std::min(upper + 1, held_rows - 1);  // beyond the last row: of weight 0
      const auto load = [&](int row) {
        return _mm_loadu_si128(
            reinterpret_cast<const __m128i*>(pixels + static_cast<std::size_t>(row) * row_bytes + at));
      };
      const __m128i a = load(upper);
      const __m128i b = load(lower);
      const __m128i both = pair_of_weights(weights + taps.weights + 2 * static_cast<std::size_t>(pair));
      const __m128i low = _mm_unpacklo_epi8(a, b);
      const __m128i high = _mm_unpackhi_epi8(a, b);
      sums[0] = _mm_add_epi32(sums[0], _mm_madd_epi16(_mm_unpacklo_epi8(low, zero), both));
      sums[1] = _mm_add_epi32(sums[1], _mm_madd_epi16(_mm_unpackhi_epi8(low, zero), both));
      sums[2] = _mm_add_epi32(sums[2], _mm_madd_epi16(_mm_unpacklo_epi8(high, zero), both));
      sums[3] = _mm_add_epi32(sums[3], _mm_madd_epi16(_mm_unpackhi_epi8(high, zero), both));
    }
    _mm_storeu_si128(reinterpret_cast<__m128i*>(target + at), to_bytes(sums[0], sums[1], sums[2], sums[3]));
  }
}

/// The weighted sum of neighbouring pixels of one row: R, G, B and one without meaning, with the weights' point.
__m128i blend_pixels(const Taps& taps, const std::int16_t* weights, const std::uint8_t* row) {
  const __m128i zero = _mm_setzero_si128();
  __m128i sum = _mm_set1_epi32(kHalf);
  const std::uint8_t* source = row + static_cast<std::size_t>(taps.first) * kPixelBytes;
  const std::int16_t* weight = weights + taps.weights;
  constexpr std::ptrdiff_t kPairBytes = std::ptrdiff_t{2} * kPixelBytes;
  for (int pair = 0; pair < taps.pairs; ++pair, source += kPairBytes, weight += 2) {
    const __m128i two = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(source));
    const __m128i mixed = _mm_unpacklo_epi8(_mm_unpacklo_epi8(two, _mm_srli_si128(two, kPixelBytes)), zero);
    sum = _mm_add_epi32(sum, _mm_madd_epi16(mixed, pair_of_weights(weight)));
  }
  return sum;
}

/// A row of the target, one array for each colour; kGroup pixels are made at a time.
constexpr std::size_t kGroup = 4;
struct TargetRow {
  explicit TargetRow(std::size_t pixels) : red(pixels), green(pixels), blue(pixels) {}
  std::vector<std::uint8_t> red;
  std::vector<std::uint8_t> green;
  std::vector<std::uint8_t> blue;
};

void store_group(__m128i bytes, std::uint8_t* target) {
  const int group = _mm_cvtsi128_si32(bytes);
  std::memcpy(target, &group, kGroup);
}

/// `across.taps` is a multiple of kGroup long.
void blend_across(const Axis& across, const std::uint8_t* source, TargetRow& target) {
  const std::int16_t* weights = across.weights.data();
  for (std::size_t x = 0; x < across.taps.size(); x += kGroup) {
    const Taps* taps = across.taps.data() + x;
    const __m128i pixels = to_bytes(blend_pixels(taps[0], weights, source), blend_pixels(taps[1], weights, source),
                                    blend_pixels(taps[2], weights, source), blend_pixels(taps[3], weights, source));
    // RGB-RGB-RGB-RGB- → RRRRGGGGBBBB----
    const __m128i halves = _mm_unpacklo_epi8(pixels, _mm_srli_si128(pixels, 8));
    const __m128i colors = _mm_unpacklo_epi8(halves, _mm_srli_si128(halves, 8));
    store_group(colors, target.red.data() + x);
    store_group(_mm_srli_si128(colors, 4), target.green.data() + x);
    store_group(_mm_srli_si128(colors, 8), target.blue.data() + x);
  }
}

std::uint8_t luminance(std::uint32_t red, std::uint32_t green, std::uint32_t blue) {
  return static_cast<std::uint8_t>((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16);
}

}  // namespace

void DecodedImage::allocate() {
  const auto count = static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
  pixels.resize(count * kPixelBytes + kPixelPadding);
}

void resample(const DecodedImage& image, int channels, std::span<std::uint8_t> planes) {
  const Box& window = image.crop.window;
  const Area& source = image.source;
  Axis across = make_axis(source.x, source.width, image.width, image.crop.scaled.width, window.x, window.width);
  const Axis down = make_axis(source.y, source.height, image.height, image.crop.scaled.height, window.y, window.height);
  while (across.taps.size() % kGroup != 0) across.taps.push_back(across.taps.back());

  // Rows first: afterwards only the rows of the window are left to do across.
  const std::size_t row_bytes = static_cast<std::size_t>(image.width) * kPixelBytes;
  const auto first_pixel = static_cast<std::size_t>(across.taps.front().first);
  const Taps& last = across.taps.back();
  const auto end_pixel = static_cast<std::size_t>(std::min(last.first + 2 * last.pairs, image.width));
  std::vector<std::uint8_t> row(row_bytes + 2 * sizeof(__m128i));  // zeros after the last pixel
  TargetRow target(across.taps.size());
  const auto width = static_cast<std::size_t>(window.width);
  const std::size_t plane = width * static_cast<std::size_t>(window.height);
  std::uint8_t* to = planes.data();
  for (const Taps& rows : down.taps) {
    blend_rows(rows, down.weights.data(), image.pixels.data(), row_bytes, image.height, first_pixel * kPixelBytes,
               end_pixel * kPixelBytes, row.data());
    blend_across(across, row.data(), target);
    if (channels == 1) {
      for (std::size_t x = 0; x < width; ++x) to[x] = luminance(target.red[x], target.green[x], target.blue[x]);
    } else {
      std::memcpy(to, target.red.data(), width);
      std::memcpy(to + plane, target.green.data(), width);
      std::memcpy(to + 2 * plane, target.blue.data(), width);
    }
    to += width;
  }
}

void recrop(const CropRule& crop_rule, int channels, int image_size, DecodedImage& scratch,
            std::span<std::uint8_t> planes) {
  scratch.file_size = {image_size, image_size};
  scratch.crop = crop_rule.crop(scratch.file_size);
  scratch.width = scratch.height = image_size;
  const Box& box = scratch.crop.source;
  scratch.source = {static_cast<double>(box.x), static_cast<double>(box.y), static_cast<double>(box.width),
                    static_cast<double>(box.height)};
  scratch.allocate();
  const auto plane = static_cast<std::size_t>(image_size) * static_cast<std::size_t>(image_size);
  for (std::size_t pixel = 0; pixel < plane; ++pixel) {
    for (std::size_t color = 0; color < 3; ++color) {
      scratch.pixels[pixel * kPixelBytes + color] = planes[(channels == 1 ? 0 : color * plane) + pixel];
    }
  }
  resample(scratch, channels, planes);
}

}  // namespace dcs3gd::data
