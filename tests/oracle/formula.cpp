#include "tests/oracle/formula.h"

#include <array>
#include <cmath>
#include <string_view>

namespace dcs3gd::oracle {
namespace {

constexpr int kPatchPixels = 4;
constexpr int kSketchSums = 4;

std::uint64_t fnv1a(std::string_view text) {
  std::uint64_t value = 0xCBF29CE484222325U;
  for (const char letter : text) value = (value ^ static_cast<unsigned char>(letter)) * 0x100000001B3U;
  return value;
}

/// A stream of numbers by index: hashes (SplitMix64's) of the stream's name and the index.
class Stream {
 public:
  explicit Stream(std::string_view name) : start_(fnv1a(name)) {}

  std::uint64_t bits(std::size_t index) const {
    std::uint64_t x = start_ + (index + 1) * 0x9E3779B97F4A7C15U;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
    return x ^ (x >> 31);
  }
  /// In [−1, 1), multiples of 2⁻²³.
  double uniform(std::size_t index) const { return static_cast<double>(bits(index) >> 40) * 0x1p-23 - 1; }

 private:
  std::uint64_t start_;
};

/// u in [−1, 1) becomes a value of the slice; `index` is the element's.
double first_value(const ParameterSlice& slice, std::size_t index, double u) {
  switch (slice.kind) {
    case ParameterKind::statistics:
      return slice.name.ends_with(".running_mean") ? 0.05 * u : 0.0006 + 0.0003 * u;
    case ParameterKind::norm:
      if (slice.name.ends_with(".weight")) return 0.045 + 0.01 * u;
      return (index % 4 == 3 ? -0.125 : 0.125) + 0.025 * u;
    case ParameterKind::bias:
      return 0.1 * u;
    case ParameterKind::weight:
      break;
  }
  const auto fan_in = slice.count / static_cast<std::size_t>(slice.shape[0]);
  return u / std::sqrt(static_cast<double>(fan_in));
}

}  // namespace

void fill_first_values(int seed, ParameterArena& arena) {
  for (const ParameterSlice& slice : arena.layout().slices()) {
    const Stream stream(std::to_string(seed) + "." + slice.name);
    const std::span<float> values = arena.slice(slice);
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(first_value(slice, i, stream.uniform(i)));
    }
  }
}

FormulaBatch::FormulaBatch(int seed, const std::string& name, int count, const nn::ImageShape& shape, int classes) {
  const std::string prefix = std::to_string(seed) + "." + name;
  const Stream colours(prefix + ".colours");
  const Stream patches(prefix + ".patches");
  const Stream noise(prefix + ".noise");
  const Stream label_bits(prefix + ".labels");
  const auto planes = static_cast<std::size_t>(count) * static_cast<std::size_t>(shape.channels);
  const auto height = static_cast<std::size_t>(shape.height);
  const auto width = static_cast<std::size_t>(shape.width);
  const std::size_t rows = (height + kPatchPixels - 1) / kPatchPixels;
  const std::size_t columns = (width + kPatchPixels - 1) / kPatchPixels;
  for (std::size_t plane = 0; plane < planes; ++plane) {
    for (std::size_t y = 0; y < height; ++y) {
      for (std::size_t x = 0; x < width; ++x) {
        const std::size_t patch = (plane * rows + y / kPatchPixels) * columns + x / kPatchPixels;
        const std::size_t pixel = (plane * height + y) * width + x;
        images.push_back(
            static_cast<float>(2 * colours.uniform(plane) + patches.uniform(patch) + noise.uniform(pixel)));
      }
    }
  }
  for (std::size_t image = 0; image < static_cast<std::size_t>(count); ++image) {
    labels.push_back(static_cast<std::int32_t>(label_bits.bits(image) % static_cast<std::uint64_t>(classes)));
  }
}

std::vector<double> sketch(const std::string& name, std::span<const double> values) {
  const Stream signs("signs." + name);
  double squares = 0;
  std::array<double, kSketchSums> sums{};
  for (std::size_t i = 0; i < values.size(); ++i) {
    squares += values[i] * values[i];
    const std::uint64_t bits = signs.bits(i);
    for (std::size_t k = 0; k < sums.size(); ++k) sums[k] += (bits >> (63 - k) & 1) != 0 ? -values[i] : values[i];
  }
  std::vector<double> result{std::sqrt(squares)};
  result.insert(result.end(), sums.begin(), sums.end());
  return result;
}

}  // namespace dcs3gd::oracle
