#include "data/transform/mixup.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace dcs3gd::data {
namespace {

/// Floats mixed at a time: what they are mixed from stays in the cache.
constexpr std::size_t kBlock = 2048;

/// The logarithm of a number from the Gamma(alpha, 1) distribution: Marsaglia and Tsang, "A simple method for
/// generating gamma variables", 2000. For alpha below 1 from Gamma(alpha + 1) times u^(1/alpha), which in its logarithm
/// does not vanish for the smallest alpha.
double draw_log_gamma(double alpha, RandomStream& random) {
  const auto log_uniform = [&] { return std::log(1.0 - static_cast<double>(random.uniform())); };
  if (alpha < 1) {
    const double boost = log_uniform() / alpha;
    return draw_log_gamma(alpha + 1, random) + boost;
  }
  const double d = alpha - 1.0 / 3;
  const double c = 1 / std::sqrt(9 * d);
  while (true) {
    const double x = random.normal();
    const double v = std::pow(1 + c * x, 3);
    if (v > 0 && log_uniform() < x * x / 2 + d - d * v + d * std::log(v)) return std::log(d * v);
  }
}

}  // namespace

float draw_mixup_share(float alpha, RandomStream& random) {
  const double log_first = draw_log_gamma(static_cast<double>(alpha), random);
  const double log_second = draw_log_gamma(static_cast<double>(alpha), random);
  return static_cast<float>(1 / (1 + std::exp(log_second - log_first)));
}

void mix_images(float share, std::size_t count, std::span<float> images) {
  const float rest = 1 - share;
  const std::size_t image_floats = images.size() / count;
  std::array<float, kBlock> last{};
  for (std::size_t first = 0; first < image_floats; first += kBlock) {
    const std::size_t length = std::min(kBlock, image_floats - first);
    const auto block = [&](std::size_t image) { return images.data() + image * image_floats + first; };
    std::copy_n(block(count - 1), length, last.begin());
    for (std::size_t image = count; image-- > 0;) {
      float* const target = block(image);
      const float* const other = image > 0 ? block(image - 1) : last.data();
      for (std::size_t i = 0; i < length; ++i) target[i] = share * target[i] + rest * other[i];
    }
  }
}

}  // namespace dcs3gd::data
