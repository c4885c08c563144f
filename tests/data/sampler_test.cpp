#include "data/sampler.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "core/random_stream.h"
#include "tests/data/data_test_support.h"

namespace dcs3gd::data {
namespace {

/// The images a batch holds.
std::vector<std::uint32_t> images_of(const Sampler& sampler, const BatchPlace& place) {
  const std::vector<std::uint32_t> order = sampler.order(place.epoch);
  const auto first = order.begin() + place.first;
  return {first, first + place.count};
}

/// All images of all batches of a sampler, in reading order.
std::vector<std::uint32_t> all_images(const Sampler& sampler) {
  std::vector<std::uint32_t> images;
  for (std::int64_t index = 0; index < sampler.batch_count(); ++index) {
    const auto batch = images_of(sampler, sampler.at(index));
    images.insert(images.end(), batch.begin(), batch.end());
  }
  return images;
}

}  // namespace

TEST_CASE("sampler: the order is a permutation of its epoch and seed, or the identity") {
  const SamplePlan plan{.seed = 5};
  const Sampler sampler(plan, 1000, true);
  std::vector<std::uint32_t> identity(1000);
  std::iota(identity.begin(), identity.end(), 0U);

  std::vector<std::uint32_t> expected = identity;
  RandomStream random(5, RandomPurpose::shuffle, 3);
  shuffle(expected, random);
  CHECK(sampler.order(3) == expected);

  std::vector<std::uint32_t> sorted = sampler.order(0);
  CHECK(sorted != identity);
  CHECK(sorted != sampler.order(1));
  CHECK(sorted != Sampler({.seed = 6}, 1000, true).order(0));
  std::sort(sorted.begin(), sorted.end());
  CHECK(sorted == identity);

  CHECK(Sampler(plan, 1000, false).order(3) == identity);
  CHECK(Sampler({.part = Part::eval, .seed = 5}, 1000, true).order(0) == identity);
}

TEST_CASE("sampler: worker i reads perm[s*B*N + i*B + j] at position j of step s") {
  constexpr int kWorkers = 6;
  constexpr int kBatch = 7;
  constexpr std::uint32_t kImages = 200;  // 4 steps of 42, 32 images dropped
  constexpr std::int64_t kEpochs = 3;
  for (const int workers_per_rank : {1, 2, 3, 6}) {
    for (int rank = 0; rank < kWorkers / workers_per_rank; ++rank) {
      const Sampler sampler({.seed = 9,
                             .rank = rank,
                             .workers_per_rank = workers_per_rank,
                             .workers = kWorkers,
                             .batch_per_worker = kBatch,
                             .epochs = kEpochs},
                            kImages, true);
      REQUIRE(sampler.steps_per_epoch() == 4);
      REQUIRE(sampler.batch_count() == kEpochs * 4 * workers_per_rank);
      std::int64_t index = 0;
      for (std::int64_t epoch = 0; epoch < kEpochs; ++epoch) {
        const std::vector<std::uint32_t> perm = sampler.order(epoch);
        for (int step = 0; step < 4; ++step) {
          for (int k = 0; k < workers_per_rank; ++k, ++index) {
            const int worker = rank * workers_per_rank + k;
            const BatchPlace place = sampler.at(index);
            CHECK(place.epoch == epoch);
            CHECK(place.step == step);
            CHECK(place.worker == worker);
            REQUIRE(place.count == kBatch);
            const auto images = images_of(sampler, place);
            for (int j = 0; j < kBatch; ++j) {
              CHECK(images[static_cast<std::size_t>(j)] ==
                    perm[static_cast<std::size_t>(step * kBatch * kWorkers + worker * kBatch + j)]);
            }
          }
        }
      }
    }
  }
}

TEST_CASE("sampler: evaluation counts every image exactly once, with as many batches on every rank") {
  for (const std::uint32_t images : {1U, 2U, 9U, 10U, 11U, 64U, 100U}) {
    for (const int ranks : {1, 2, 3, 8}) {
      for (const int batch : {1, 3, 10, 128}) {
        CAPTURE(images);
        CAPTURE(ranks);
        CAPTURE(batch);
        std::vector<int> counts(images);
        std::set<std::int64_t> batch_counts;
        for (int rank = 0; rank < ranks; ++rank) {
          const Sampler sampler({.part = Part::eval, .rank = rank, .workers = ranks, .batch_per_worker = batch}, images,
                                true);
          batch_counts.insert(sampler.batch_count());
          for (const std::uint32_t image : all_images(sampler)) ++counts[image];
        }
        CHECK(std::all_of(counts.begin(), counts.end(), [](int count) { return count == 1; }));
        CHECK(batch_counts.size() == 1);
        CHECK(*batch_counts.begin() == (images + static_cast<unsigned>(ranks * batch) - 1) / (ranks * batch));
      }
    }
  }
}

TEST_CASE("sampler: a run goes on in mid-epoch with another number of workers or batch") {
  constexpr std::uint32_t kImages = 103;
  const auto read = [](int workers, int batch, std::int64_t start_epoch, std::int64_t start_sample,
                       std::int64_t epochs) {
    return Sampler({.seed = 4,
                    .workers_per_rank = workers,
                    .workers = workers,
                    .batch_per_worker = batch,
                    .start_epoch = start_epoch,
                    .epochs = epochs,
                    .start_sample = start_sample},
                   kImages, true);
  };
  const std::vector<std::uint32_t> order1 = read(1, 1, 0, 0, 2).order(1);

  SUBCASE("the same division: the same batches as without the break") {
    const Sampler whole = read(4, 3, 0, 0, 3);
    const Sampler resumed = read(4, 3, 1, 2 * 12, 3);
    const std::int64_t skipped = (8 + 2) * 4;
    REQUIRE(resumed.batch_count() == whole.batch_count() - skipped);
    for (std::int64_t index = 0; index < resumed.batch_count(); ++index) {
      const BatchPlace expected = whole.at(index + skipped);
      const BatchPlace found = resumed.at(index);
      CHECK(found.epoch == expected.epoch);
      CHECK(found.first == expected.first);
      CHECK(found.worker == expected.worker);
      CHECK(found.step == (expected.epoch == 1 ? expected.step - 2 : expected.step));
    }
  }
  SUBCASE("another division: after the images that were used") {
    const Sampler resumed = read(2, 5, 1, 24, 2);
    REQUIRE(resumed.batch_count() == (kImages - 24) / 10 * 2);
    const std::vector<std::uint32_t> expected(order1.begin() + 24, order1.begin() + 24 + 70);
    CHECK(all_images(resumed) == expected);
  }
  SUBCASE("nothing left of the epoch: on to the next") {
    for (const std::int64_t used : {std::int64_t{kImages}, std::int64_t{kImages} - 9}) {
      const Sampler resumed = read(2, 5, 0, used, 2);
      REQUIRE(resumed.batch_count() == 10 * 2);
      CHECK(resumed.at(0).epoch == 1);
      CHECK(resumed.at(0).step == 0);
      CHECK(all_images(resumed) == std::vector<std::uint32_t>(order1.begin(), order1.begin() + 100));
    }
  }
  SUBCASE("a finished run") { CHECK(read(2, 5, 3, 0, 3).batch_count() == 0); }
  SUBCASE("more used than there is") {
    CHECK(
        contains(input_error([&] { read(1, 1, 0, kImages + 1, 1); }), "after image 104 of epoch 0, found 103 images"));
  }
}

TEST_CASE("sampler: positions beyond 32 bits") {
  constexpr std::uint32_t kImages = 4'000'000'000;
  const Sampler sampler({.rank = 1, .workers = 2, .batch_per_worker = 1'500'000'000, .epochs = 3'000'000'000}, kImages,
                        true);
  CHECK(sampler.steps_per_epoch() == 1);
  CHECK(sampler.batch_count() == 3'000'000'000);
  CHECK(sampler.at(2'999'999'999).epoch == 2'999'999'999);
  CHECK(sampler.at(2'999'999'999).first == 1'500'000'000);
}

TEST_CASE("sampler: a data set smaller than one global batch is refused") {
  const SamplePlan plan{.workers_per_rank = 8, .workers = 8, .batch_per_worker = 128};
  CHECK(Sampler(plan, 1024, true).steps_per_epoch() == 1);
  const std::string message = input_error([&] { Sampler(plan, 1023, true); });
  CHECK(contains(message, "8 workers x 128 images = 1024, found 1023 images"));
}

TEST_CASE("sampler: a division that cannot be") {
  for (const SamplePlan& plan :
       {SamplePlan{.workers = 0}, SamplePlan{.batch_per_worker = 0}, SamplePlan{.rank = 1, .workers = 1},
        SamplePlan{.rank = -1}, SamplePlan{.workers_per_rank = 0}, SamplePlan{.workers_per_rank = 2, .workers = 1}}) {
    CHECK_THROWS_AS(Sampler(plan, 100, true), Error);
  }
}

}  // namespace dcs3gd::data
