#include "data/synthetic_dataset.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>

#include "core/error.h"
#include "core/format.h"
#include "core/random_stream.h"
#include "data/read_buffers.h"
#include "data/transform/resample.h"

namespace dcs3gd::data {
namespace {

enum class Figure { disc, square, triangle, ring, cross };
constexpr int kFigures = 5;

/// What a class fixes: the figure, and for each of four properties of the stripes one of some levels.
struct ClassTraits {
  Figure figure = Figure::disc;
  /// Ranges within 0 … 1: direction and frequency of the figure's stripes, then of the background's.
  std::array<float, 4> low{};
  std::array<float, 4> high{};
};

/// The classes count through the figures first, then through the levels of the properties. The properties get as many
/// levels as it takes to tell all classes apart, one more each in turn: with up to 5 classes the figure alone decides,
/// with 10 also two directions of its stripes. A property with one level is random.
ClassTraits class_traits(int label, int classes) {
  std::array<int, 4> levels{1, 1, 1, 1};
  std::int64_t told_apart = kFigures;
  for (std::size_t turn = 0; told_apart < classes; turn = (turn + 1) % levels.size()) {
    told_apart = told_apart / levels[turn] * (levels[turn] + 1);
    ++levels[turn];
  }
  constexpr float kGap = 0.1F;  // of a level, left free on both sides
  ClassTraits traits{.figure = static_cast<Figure>(label % kFigures)};
  int rest = label / kFigures;
  for (std::size_t property = 0; property < levels.size(); ++property) {
    const auto count = static_cast<float>(levels[property]);
    const auto level = static_cast<float>(rest % levels[property]);
    rest /= levels[property];
    traits.low[property] = (level + kGap) / count;
    traits.high[property] = (level + 1.0F - kGap) / count;
  }
  return traits;
}

/// A direction and two colours that change into each other along it.
struct Stripes {
  float along_x = 0;  ///< cycles per pixel
  float along_y = 0;
  float phase = 0;  ///< cycles; large enough that the sum below is positive
  std::array<float, 3> color{};
  std::array<float, 3> color_change{};

  /// 0 … 1 … 0 over a cycle.
  float wave(float x, float y) const {
    const float cycles = phase + x * along_x + y * along_y;
    return std::abs(2.0F * (cycles - static_cast<float>(static_cast<int>(cycles))) - 1.0F);
  }
};

/// `direction` 0 … 1: upright to level stripes; `frequency` 0 … 1: wide to narrow ones. Their mean is `brightness` with
/// a random tint, they differ from it by up to half of `contrast` (both 0 … 255).
Stripes draw_stripes(float direction, float frequency, int image_size, float brightness, float contrast,
                     RandomStream& random) {
  constexpr float kMinCycles = 2.0F;  // per image
  constexpr float kMaxCycles = 6.0F;
  constexpr float kTint = 40;
  const double angle = static_cast<double>(direction) * std::numbers::pi / 2;
  const float cycles_per_pixel = (kMinCycles + (kMaxCycles - kMinCycles) * frequency) / static_cast<float>(image_size);
  Stripes stripes;
  stripes.along_x = cycles_per_pixel * static_cast<float>(std::cos(angle));
  stripes.along_y = cycles_per_pixel * static_cast<float>(std::sin(angle));
  // x and y stay within one image of the figure's centre, so the sum of the wave stays above −2 · kMaxCycles.
  stripes.phase = 2 * kMaxCycles + random.uniform();
  const float change = contrast * random.uniform(0.5F, 1.0F);
  for (std::size_t channel = 0; channel < stripes.color.size(); ++channel) {
    stripes.color[channel] = brightness - change / 2 + random.uniform(-kTint, kTint);
    stripes.color_change[channel] = change;
  }
  return stripes;
}

/// Signed distance in units of the figure's radius from its outline to a point: negative inside.
float outline_distance(Figure figure, float x, float y) {
  switch (figure) {
    case Figure::disc:
      return std::sqrt(x * x + y * y) - 1.0F;
    case Figure::square:
      return std::max(std::abs(x), std::abs(y)) - 0.9F;
    case Figure::triangle:  // equilateral, one corner up
      return std::max(0.866F * std::abs(x) - 0.5F * y, y) - 0.6F;
    case Figure::ring:
      return std::abs(std::sqrt(x * x + y * y) - 0.75F) - 0.3F;
    case Figure::cross:
      return std::min(std::max(std::abs(x), 3 * std::abs(y)), std::max(3 * std::abs(x), std::abs(y))) - 1.0F;
  }
  return 0;
}

/// All that is drawn of an image before its pixels.
struct Scene {
  Figure figure = Figure::disc;
  float center_x = 0;  ///< pixels
  float center_y = 0;
  float radius = 0;  ///< pixels
  float cosine = 1;  ///< of the figure's rotation
  float sine = 0;
  Stripes inside;
  Stripes outside;
  int noise = 0;  ///< largest change of a pixel
};

Scene draw_scene(const ClassTraits& traits, int image_size, RandomStream& random) {
  constexpr float kMaxRotation = 0.25F;  // radians
  // The stripes of the figure show more than those of the background.
  constexpr float kFigureContrast = 120;
  constexpr float kGroundContrast = 60;
  const auto size = static_cast<float>(image_size);
  std::array<float, 4> properties{};
  for (std::size_t property = 0; property < properties.size(); ++property) {
    properties[property] = random.uniform(traits.low[property], traits.high[property]);
  }
  const double rotation = static_cast<double>(random.uniform(-kMaxRotation, kMaxRotation));
  Scene scene;
  scene.figure = traits.figure;
  scene.center_x = size * random.uniform(0.3F, 0.7F);
  scene.center_y = size * random.uniform(0.3F, 0.7F);
  scene.radius = size * random.uniform(0.22F, 0.42F);
  scene.cosine = static_cast<float>(std::cos(rotation));
  scene.sine = static_cast<float>(std::sin(rotation));
  const float middle = random.uniform(90, 165);
  float difference = random.uniform(25, 60);
  if (random.below(2) == 1) difference = -difference;
  scene.inside = draw_stripes(properties[0], properties[1], image_size, middle + difference, kFigureContrast, random);
  scene.outside = draw_stripes(properties[2], properties[3], image_size, middle - difference, kGroundContrast, random);
  // Mirrored stripes are of the same class; the figures are symmetric up to their rotation, which has either sign.
  if (random.below(2) == 1) scene.inside.along_x = -scene.inside.along_x;
  if (random.below(2) == 1) scene.outside.along_x = -scene.outside.along_x;
  scene.noise = 10 + static_cast<int>(random.below(40));
  return scene;
}

/// Cheap bytes of noise, triangular in −limit … limit: sixteen random bytes a block, two for each value.
class Noise {
 public:
  Noise(RandomStream stream, int limit) : stream_(stream), limit_(limit) {}

  int next() {
    if (used_ == kValuesPerBlock) {
      block_ = stream_.block(block_index_++);
      used_ = 0;
    }
    const std::uint32_t word = block_[used_ / 2] >> (used_ % 2 * 16);
    ++used_;
    return (static_cast<int>(word & 0xFF) - static_cast<int>(word >> 8 & 0xFF)) * limit_ / 255;
  }

 private:
  static constexpr std::size_t kValuesPerBlock = 8;
  RandomStream stream_;
  int limit_;
  RandomStream::Block block_{};
  std::uint64_t block_index_ = 0;
  std::size_t used_ = kValuesPerBlock;
};

void paint(const Scene& scene, Noise noise, int image_size, int channels, std::span<std::uint8_t> pixels) {
  const auto plane = static_cast<std::size_t>(image_size) * static_cast<std::size_t>(image_size);
  std::size_t pixel = 0;
  for (int row = 0; row < image_size; ++row) {
    for (int column = 0; column < image_size; ++column, ++pixel) {
      const float x = static_cast<float>(column) - scene.center_x;
      const float y = static_cast<float>(row) - scene.center_y;
      const float turned_x = (scene.cosine * x + scene.sine * y) / scene.radius;
      const float turned_y = (scene.cosine * y - scene.sine * x) / scene.radius;
      const float distance = outline_distance(scene.figure, turned_x, turned_y) * scene.radius;
      const float cover = std::clamp(0.5F - distance, 0.0F, 1.0F);  // soft over one pixel
      const float inside = scene.inside.wave(x, y);
      const float outside = scene.outside.wave(x, y);
      for (std::size_t channel = 0; channel < static_cast<std::size_t>(channels); ++channel) {
        const float figure = scene.inside.color[channel] + scene.inside.color_change[channel] * inside;
        const float ground = scene.outside.color[channel] + scene.outside.color_change[channel] * outside;
        const int value = static_cast<int>(ground + (figure - ground) * cover) + noise.next();
        pixels[channel * plane + pixel] = static_cast<std::uint8_t>(std::clamp(value, 0, 255));
      }
    }
  }
}

DatasetProperties properties_of(const DataOptions& options, Part part, int classes) {
  const std::int64_t images = part == Part::train ? options.synthetic.train_images : options.synthetic.eval_images;
  if (images < 1 || images > std::numeric_limits<std::uint32_t>::max()) {
    throw Error(ErrorKind::input,
                format("data.synthetic.{}_images: expected 1 to {}, found {}", part == Part::train ? "train" : "eval",
                       std::numeric_limits<std::uint32_t>::max(), images));
  }
  const std::string description = format("synthetic: {} images of {}x{} pixels, {} channel(s)", images,
                                         options.image_size, options.image_size, options.channels);
  return {.size = static_cast<std::uint32_t>(images),
          .classes = classes,
          .channels = options.channels,
          .height = options.image_size,
          .width = options.image_size,
          .classes_found = classes,
          .description = description,
          .fingerprint = description};  // the rest follows from the configuration
}

}  // namespace

SyntheticDataset::SyntheticDataset(const DataOptions& options, Part part, std::uint64_t seed, int classes)
    : Dataset(properties_of(options, part, classes)), part_(part), seed_(seed) {}

ReadResult SyntheticDataset::read(std::uint32_t index, const CropRule& crop_rule, ReadBuffers& buffers,
                                  std::span<std::uint8_t> pixels) const {
  const auto label = static_cast<std::int32_t>(index % static_cast<std::uint32_t>(classes()));
  const auto part = static_cast<std::uint64_t>(part_);
  RandomStream scene_random(seed_, RandomPurpose::synthetic_data, part, index, 0);
  const RandomStream noise_random(seed_, RandomPurpose::synthetic_data, part, index, 1);
  const Scene scene = draw_scene(class_traits(label, classes()), width(), scene_random);
  paint(scene, Noise(noise_random, scene.noise), width(), channels(), pixels);
  if (crop_rule.is_random()) recrop(crop_rule, channels(), width(), buffers.image, pixels);
  return {.label = label, .problem = {}};
}

}  // namespace dcs3gd::data
