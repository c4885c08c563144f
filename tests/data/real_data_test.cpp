#include <set>

#include "tests/data/data_test_support.h"

namespace dcs3gd::data {
namespace {

std::vector<int> class_counts(const Dataset& dataset) {
  std::vector<int> counts(static_cast<std::size_t>(dataset.classes()));
  for (std::uint32_t index = 0; index < dataset.size(); ++index) {
    std::int32_t label = -1;
    read_image(dataset, index, &label);
    ++counts[static_cast<std::size_t>(label)];
  }
  return counts;
}

/// The mean pixel of one channel, 0 … 1.
double mean_pixel(const Dataset& dataset, std::size_t channel) {
  const std::size_t plane = static_cast<std::size_t>(dataset.height()) * static_cast<std::size_t>(dataset.width());
  double sum = 0;
  for (std::uint32_t index = 0; index < dataset.size(); ++index) {
    const Bytes pixels = read_image(dataset, index);
    for (std::size_t i = 0; i < plane; ++i) sum += pixels[channel * plane + i];
  }
  return sum / 255 / static_cast<double>(plane) / dataset.size();
}

}  // namespace

TEST_CASE("Fashion-MNIST as published" * doctest::skip()) {
  require_data("fashion-mnist/train-images-idx3-ubyte.gz");
  DataOptions options;
  options.format = "idx";
  options.train = "fashion-mnist";
  options.eval = "fashion-mnist";
  options.image_size = 28;
  options.channels = 1;
  const auto train = open_dataset(options, Part::train, 1, 10);
  const auto eval = open_dataset(options, Part::eval, 1, 10);
  CHECK(train->size() == 60000);
  CHECK(eval->size() == 10000);
  CHECK(class_counts(*train) == std::vector<int>(10, 6000));
  CHECK(class_counts(*eval) == std::vector<int>(10, 1000));
  CHECK(mean_pixel(*train, 0) == doctest::Approx(0.2860).epsilon(0.001));
}

TEST_CASE("CIFAR-10 as published" * doctest::skip()) {
  require_data("cifar10/data_batch_1.bin");
  DataOptions options;
  options.format = "cifar10";
  options.train = "cifar10";
  options.eval = "cifar10";
  const auto train = open_dataset(options, Part::train, 1, 10);
  const auto eval = open_dataset(options, Part::eval, 1, 10);
  CHECK(train->size() == 50000);
  CHECK(eval->size() == 10000);
  CHECK(class_counts(*train) == std::vector<int>(10, 5000));
  CHECK(class_counts(*eval) == std::vector<int>(10, 1000));
  CHECK(mean_pixel(*train, 0) == doctest::Approx(0.4914).epsilon(0.001));
  CHECK(mean_pixel(*train, 2) == doctest::Approx(0.4465).epsilon(0.001));
}

}  // namespace dcs3gd::data
