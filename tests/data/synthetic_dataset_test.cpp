#include "data/synthetic_dataset.h"

#include <algorithm>
#include <cmath>

#include "tests/data/data_test_support.h"

namespace dcs3gd::data {
namespace {

DataOptions synthetic_options(int image_size, int channels, std::int64_t train_images, std::int64_t eval_images) {
  DataOptions options;
  options.image_size = image_size;
  options.channels = channels;
  options.synthetic.train_images = train_images;
  options.synthetic.eval_images = eval_images;
  return options;
}

/// FNV-1a over the bytes of some images.
std::uint64_t fingerprint(const Dataset& dataset, std::uint32_t images) {
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (std::uint32_t index = 0; index < images; ++index) {
    for (const std::uint8_t byte : read_image(dataset, index)) hash = (hash ^ byte) * 0x100000001b3U;
  }
  return hash;
}

/// Share of images whose nearest class mean (squared distance of pixels) is that of their own class: what the simplest
/// linear classifier reaches.
double nearest_mean_accuracy(const Dataset& train, const Dataset& eval) {
  const auto classes = static_cast<std::size_t>(train.classes());
  std::vector<std::vector<double>> means(classes, std::vector<double>(train.image_bytes()));
  for (std::uint32_t index = 0; index < train.size(); ++index) {
    std::int32_t label = 0;
    const Bytes pixels = read_image(train, index, &label);
    for (std::size_t i = 0; i < pixels.size(); ++i) means[static_cast<std::size_t>(label)][i] += pixels[i];
  }
  int correct = 0;
  for (std::uint32_t index = 0; index < eval.size(); ++index) {
    std::int32_t label = 0;
    const Bytes pixels = read_image(eval, index, &label);
    std::vector<double> distances(classes);
    for (std::size_t c = 0; c < classes; ++c) {
      for (std::size_t i = 0; i < pixels.size(); ++i) {
        const double difference = means[c][i] * static_cast<double>(classes) / train.size() - pixels[i];
        distances[c] += difference * difference;
      }
    }
    correct += std::min_element(distances.begin(), distances.end()) - distances.begin() == label ? 1 : 0;
  }
  return static_cast<double>(correct) / eval.size();
}

/// How much neighbours differ from left to right, against from top to bottom: −1 … 1.
double upright_texture(const Bytes& pixels, std::size_t size) {
  double across = 0;
  double down = 0;
  for (std::size_t y = 1; y < size; ++y) {
    for (std::size_t x = 1; x < size; ++x) {
      const int here = pixels[y * size + x];
      across += std::pow(here - pixels[y * size + x - 1], 2);
      down += std::pow(here - pixels[(y - 1) * size + x], 2);
    }
  }
  return (across - down) / (across + down);
}

}  // namespace

TEST_CASE("synthetic: an image is a function of seed, part and index") {
  const DataOptions options = synthetic_options(16, 3, 50, 20);
  const SyntheticDataset train(options, Part::train, 1, 10);
  const SyntheticDataset again(options, Part::train, 1, 10);
  const SyntheticDataset larger(synthetic_options(16, 3, 500, 20), Part::train, 1, 10);
  const SyntheticDataset eval(options, Part::eval, 1, 10);
  const SyntheticDataset other_seed(options, Part::train, 2, 10);
  CHECK(train.size() == 50);
  CHECK(eval.size() == 20);
  for (const std::uint32_t index : {19U, 3U, 0U}) {
    const Bytes image = read_image(train, index);
    CHECK(read_image(again, index) == image);
    CHECK(read_image(larger, index) == image);
    CHECK(read_image(eval, index) != image);
    CHECK(read_image(other_seed, index) != image);
    CHECK(read_image(train, index + 10) != image);
  }
}

TEST_CASE("synthetic: the images of earlier versions") {
  const SyntheticDataset color(synthetic_options(32, 3, 100, 20), Part::train, 1, 10);
  const SyntheticDataset grey(synthetic_options(28, 1, 100, 20), Part::eval, 7, 200);
  CHECK(fingerprint(color, 50) == 2309058364908354762U);
  CHECK(fingerprint(grey, 20) == 15673018797992567700U);
}

TEST_CASE("synthetic: labels count through any number of classes") {
  for (const int classes : {1, 2, 5, 7, 10, 1000}) {
    const SyntheticDataset dataset(synthetic_options(8, 1, 2001, 1), Part::train, 1, classes);
    std::vector<int> counts(static_cast<std::size_t>(classes));
    for (std::uint32_t index = 0; index < dataset.size(); ++index) {
      std::int32_t label = -1;
      read_image(dataset, index, &label);
      REQUIRE(label >= 0);
      REQUIRE(label < classes);
      ++counts[static_cast<std::size_t>(label)];
    }
    const auto [least, most] = std::minmax_element(counts.begin(), counts.end());
    CHECK(*most - *least <= 1);
  }
}

TEST_CASE("synthetic: mean and deviation are near the default normalisation") {
  const SyntheticDataset dataset(synthetic_options(32, 3, 1000, 1), Part::train, 3, 10);
  double sum = 0;
  double squares = 0;
  for (std::uint32_t index = 0; index < dataset.size(); ++index) {
    for (const std::uint8_t byte : read_image(dataset, index)) {
      sum += byte / 255.0;
      squares += byte / 255.0 * byte / 255.0;
    }
  }
  const double count = static_cast<double>(dataset.size()) * static_cast<double>(dataset.image_bytes());
  const double mean = sum / count;
  CHECK(mean == doctest::Approx(0.5).epsilon(0.04));
  CHECK(std::sqrt(squares / count - mean * mean) == doctest::Approx(0.23).epsilon(0.1));
}

TEST_CASE("synthetic: pixels alone tell little, texture tells more") {
  const DataOptions options = synthetic_options(28, 1, 2000, 500);
  const SyntheticDataset train(options, Part::train, 1, 10);
  const SyntheticDataset eval(options, Part::eval, 1, 10);
  CHECK(nearest_mean_accuracy(train, eval) < 0.2);

  // With ten classes, those from 5 on differ from the first five by the direction of the figure's stripes.
  int correct = 0;
  for (std::uint32_t index = 0; index < train.size(); ++index) {
    std::int32_t label = 0;
    const Bytes pixels = read_image(train, index, &label);
    correct += (upright_texture(pixels, 28) > 0) == (label < 5) ? 1 : 0;
  }
  CHECK(static_cast<double>(correct) / train.size() > 0.65);
}

TEST_CASE("synthetic: impossible sizes") {
  const auto message = [](std::int64_t train, std::int64_t eval, Part part) {
    return input_error([&] { SyntheticDataset(synthetic_options(8, 1, train, eval), part, 1, 2); });
  };
  CHECK(contains(message(0, 1, Part::train), "data.synthetic.train_images: expected 1 to 4294967295, found 0"));
  CHECK(contains(message(1, -5, Part::eval), "data.synthetic.eval_images"));
  CHECK(contains(message(std::int64_t{1} << 32, 1, Part::train), "data.synthetic.train_images"));
}

}  // namespace dcs3gd::data
