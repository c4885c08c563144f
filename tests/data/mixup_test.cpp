#include "data/transform/mixup.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "data/batch_loader.h"
#include "tests/data/data_test_support.h"

namespace dcs3gd::data {
namespace {

constexpr int kImages = 48;
constexpr int kBatch = 5;

DataOptions mixing_options(float alpha) {
  DataOptions options;
  options.image_size = 12;
  options.synthetic.train_images = kImages;
  options.synthetic.eval_images = kImages;
  options.augment.horizontal_flip = true;
  options.augment.mixup = alpha;
  return options;
}

/// What came out of a loader, batch by batch.
struct Mixed {
  float share;
  std::vector<std::int32_t> labels;
  std::vector<std::int32_t> other_labels;
  std::vector<float> images;
  bool operator==(const Mixed&) const = default;
};

std::vector<Mixed> batches_of(const DataOptions& options, const SamplePlan& plan, int threads = 1) {
  BatchLoader loader(open_dataset(options, plan.part, plan.seed, 7), options, plan, threads);
  std::vector<Mixed> batches;
  while (const Batch* batch = loader.next()) {
    batches.push_back(
        {batch->label_share, batch->labels, batch->other_labels, {batch->images.begin(), batch->images.end()}});
  }
  return batches;
}

}  // namespace

TEST_CASE("mixup: shares have the mean, variance and symmetry of a Beta distribution") {
  constexpr int kDraws = 40000;
  for (const float alpha : {0.1F, 0.2F, 0.4F, 1.0F, 2.0F, 8.0F, kMaxMixupAlpha}) {
    CAPTURE(alpha);
    RandomStream random(3, RandomPurpose::test);
    double mean = 0;
    double square = 0;
    double third = 0;
    for (int draw = 0; draw < kDraws; ++draw) {
      const double share = draw_mixup_share(alpha, random);
      REQUIRE(share >= 0);
      REQUIRE(share <= 1);
      mean += share / kDraws;
      square += std::pow(share - 0.5, 2) / kDraws;
      third += std::pow(share - 0.5, 3) / kDraws;
    }
    const double a = alpha;
    const double variance = 1 / (4 * (2 * a + 1));
    const double fourth = variance * 3 / (4 * (2 * a + 3));  // E (x − 1/2)⁴
    const double sixth = fourth * 5 / (4 * (2 * a + 5));     // E (x − 1/2)⁶
    // Five deviations of each estimate.
    const double unit = 5 / std::sqrt(kDraws);
    CHECK(std::abs(mean - 0.5) < unit * std::sqrt(variance));
    CHECK(std::abs(square - variance) < unit * std::sqrt(fourth - variance * variance));
    CHECK(std::abs(third) < unit * std::sqrt(sixth));
  }
}

TEST_CASE("mixup: with alpha 1 shares are even, with the smallest alpha one image or the other is left") {
  RandomStream random(4, RandomPurpose::test);
  std::vector<int> bins(10);
  for (int draw = 0; draw < 20000; ++draw) {
    ++bins[static_cast<std::size_t>(std::min(9.0F, 10 * draw_mixup_share(1, random)))];
  }
  for (const int bin : bins) CHECK(std::abs(bin - 2000) < 5 * std::sqrt(2000 * 0.9));
  int ones = 0;
  for (int draw = 0; draw < 1000; ++draw) {
    const float share = draw_mixup_share(1e-30F, random);
    CHECK((share == 0 || share == 1));
    ones += share == 1 ? 1 : 0;
  }
  CHECK(std::abs(ones - 500) < 80);
}

TEST_CASE("mixup: each image is mixed with the one before it, the first with the last") {
  for (const std::size_t floats : {1U, 7U, 5000U}) {  // 5000: more than is mixed at a time
    for (const std::size_t count : {1U, 2U, 5U}) {
      CAPTURE(floats);
      CAPTURE(count);
      std::vector<float> images(count * floats);
      for (std::size_t i = 0; i < images.size(); ++i) images[i] = std::sin(static_cast<float>(i));
      const std::vector<float> before = images;
      mix_images(0.75F, count, images);
      int wrong = 0;
      for (std::size_t image = 0; image < count; ++image) {
        const std::size_t other = (image + count - 1) % count;
        for (std::size_t i = 0; i < floats; ++i) {
          const float expected = 0.75F * before[image * floats + i] + 0.25F * before[other * floats + i];
          wrong += images[image * floats + i] == expected ? 0 : 1;
        }
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("mixup: batches are those without it, mixed; evaluation is left alone") {
  const SamplePlan plan{.seed = 5, .batch_per_worker = kBatch, .epochs = 2};
  const std::vector<Mixed> plain = batches_of(mixing_options(0), plan);
  const std::vector<Mixed> mixed = batches_of(mixing_options(0.4F), plan);
  REQUIRE(mixed.size() == plain.size());
  for (std::size_t index = 0; index < mixed.size(); ++index) {
    CHECK(plain[index].other_labels.empty());
    CHECK(plain[index].share == 1);
    Mixed expected = plain[index];
    expected.share = mixed[index].share;
    expected.other_labels = expected.labels;
    std::rotate(expected.other_labels.begin(), expected.other_labels.end() - 1, expected.other_labels.end());
    mix_images(expected.share, kBatch, expected.images);
    CHECK(mixed[index] == expected);
    for (std::size_t earlier = 0; earlier < index; ++earlier) CHECK(mixed[earlier].share != mixed[index].share);
  }
  const SamplePlan evaluation{.part = Part::eval, .seed = 5, .batch_per_worker = kBatch};
  CHECK(batches_of(mixing_options(0.4F), evaluation) == batches_of(mixing_options(0), evaluation));
}

TEST_CASE("mixup: depends on seed, epoch and place alone") {
  const DataOptions options = mixing_options(0.4F);
  SamplePlan plan{.seed = 5, .workers_per_rank = 2, .workers = 2, .batch_per_worker = kBatch, .epochs = 3};
  const std::vector<Mixed> expected = batches_of(options, plan);  // four steps an epoch
  for (const int threads : {0, 2, 4}) CHECK(batches_of(options, plan, threads) == expected);

  // The second worker on a rank of its own.
  SamplePlan second = plan;
  second.rank = 1;
  second.workers_per_rank = 1;
  const std::vector<Mixed> alone = batches_of(options, second);
  REQUIRE(2 * alone.size() == expected.size());
  for (std::size_t step = 0; step < alone.size(); ++step) CHECK(alone[step] == expected[2 * step + 1]);

  // Continued after the third step of the second epoch.
  SamplePlan rest = plan;
  rest.start_epoch = 1;
  rest.start_sample = std::int64_t{3} * 2 * kBatch;
  CHECK(batches_of(options, rest) == std::vector<Mixed>(expected.begin() + 2 * (4 + 3), expected.end()));

  plan.seed = 6;
  CHECK(batches_of(options, plan).front().share != expected.front().share);
}

}  // namespace dcs3gd::data
