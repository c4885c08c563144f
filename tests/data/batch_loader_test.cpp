#include "data/batch_loader.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include <pthread.h>

#include "core/stopwatch.h"
#include "tests/data/data_test_support.h"

namespace dcs3gd::data {
namespace {

constexpr int kSize = 8;

/// 8×8 grey images whose pixels all equal the index; `on_read` is called first.
class ProbeDataset final : public Dataset {
 public:
  explicit ProbeDataset(std::uint32_t size, std::function<void(std::uint32_t)> on_read = {})
      : Dataset({.size = size, .classes = 10, .channels = 1, .height = kSize, .width = kSize, .description = "probe"}),
        on_read_(std::move(on_read)) {}

  ReadResult read(std::uint32_t index, const CropRule& /*crop_rule*/, ReadBuffers& /*buffers*/,
                  std::span<std::uint8_t> pixels) const override {
    if (on_read_) on_read_(index);
    std::fill(pixels.begin(), pixels.end(), static_cast<std::uint8_t>(index));
    return {.label = static_cast<std::int32_t>(index % 10), .problem = {}};
  }

 private:
  std::function<void(std::uint32_t)> on_read_;
};

DataOptions probe_options(int prefetch_batches = 4, bool shuffle = false) {
  DataOptions options;
  options.image_size = kSize;
  options.channels = 1;
  options.shuffle = shuffle;
  options.normalize = {.mean = {0}, .std = {1.0F / 255}};  // floats are the bytes, nearly
  options.loader.prefetch_batches = prefetch_batches;
  return options;
}

/// A batch that outlives the next call of next().
struct BatchCopy {
  std::vector<float> images;
  std::vector<std::int32_t> labels;
  int count;
  std::int64_t epoch;
  std::int64_t step;
  int worker;

  explicit BatchCopy(const Batch& batch)
      : images(batch.images.begin(), batch.images.end()),
        labels(batch.labels),
        count(batch.count),
        epoch(batch.epoch),
        step(batch.step),
        worker(batch.worker) {}
  bool operator==(const BatchCopy&) const = default;
};

std::vector<BatchCopy> all_batches(BatchLoader& loader) {
  std::vector<BatchCopy> batches;
  while (const Batch* batch = loader.next()) batches.emplace_back(*batch);
  return batches;
}

constexpr std::array kThreadCounts{0, 1, 2, 5};

}  // namespace

TEST_CASE("loader: batches hold what sampler, data set and transform say") {
  DataOptions options;
  options.image_size = 12;
  options.synthetic.train_images = 100;
  options.augment.random_crop_padding = 2;
  options.augment.horizontal_flip = true;
  const auto dataset = open_dataset(options, Part::train, 5, 7);
  const SamplePlan plan{
      .seed = 5, .rank = 1, .workers_per_rank = 2, .workers = 4, .batch_per_worker = 6, .start_epoch = 1, .epochs = 4};
  const Sampler sampler(plan, dataset->size(), true);
  const SampleTransform transform = transform_of(options, Part::train, 5);

  BatchLoader loader(dataset, options, plan, 2);
  REQUIRE(sampler.batch_count() == 3 * 4 * 2);
  std::vector<float> image(dataset->image_bytes());
  for (std::int64_t index = 0; index < sampler.batch_count(); ++index) {
    const Batch* batch = loader.next();
    REQUIRE(batch != nullptr);
    const BatchPlace place = sampler.at(index);
    CHECK(batch->epoch == place.epoch);
    CHECK(batch->step == place.step);
    CHECK(batch->worker == place.worker);
    REQUIRE(batch->count == 6);
    const std::vector<std::uint32_t> order = sampler.order(place.epoch);
    for (std::size_t j = 0; j < 6; ++j) {
      const std::uint32_t sample = order[static_cast<std::size_t>(place.first) + j];
      std::int32_t label = -1;
      Bytes pixels = read_image(*dataset, sample, &label);
      transform.apply(pixels, place.epoch, sample, image);
      CHECK(batch->labels[j] == label);
      CHECK(std::equal(image.begin(), image.end(), batch->images.begin() + j * image.size()));
    }
  }
  CHECK(loader.next() == nullptr);
  CHECK(loader.next() == nullptr);
}

TEST_CASE("loader: batches do not depend on the number of threads or on the prefetch") {
  DataOptions options;
  options.image_size = 12;
  options.synthetic.train_images = 150;
  options.augment.random_crop_padding = 2;
  options.augment.horizontal_flip = true;
  const auto dataset = open_dataset(options, Part::train, 5, 7);
  const SamplePlan plan{
      .seed = 5, .workers_per_rank = 3, .workers = 3, .batch_per_worker = 7, .epochs = 4, .start_sample = 40};
  std::vector<BatchCopy> expected;
  for (const int threads : kThreadCounts) {
    for (const int prefetch : {1, 2, 8}) {
      CAPTURE(threads);
      CAPTURE(prefetch);
      options.loader.prefetch_batches = prefetch;
      BatchLoader loader(dataset, options, plan, threads);
      const std::vector<BatchCopy> found = all_batches(loader);
      if (expected.empty()) expected = found;
      CHECK(found.size() == (5 + 3 * 7) * 3);
      CHECK(found == expected);
    }
  }
}

TEST_CASE("loader: a worker reads the same on any number of ranks") {
  const auto dataset = std::make_shared<ProbeDataset>(100);
  const auto read = [&](int workers_per_rank) {
    std::vector<std::vector<BatchCopy>> by_worker(4);
    for (int rank = 0; rank < 4 / workers_per_rank; ++rank) {
      const SamplePlan plan{.seed = 2,
                            .rank = rank,
                            .workers_per_rank = workers_per_rank,
                            .workers = 4,
                            .batch_per_worker = 5,
                            .epochs = 2};
      BatchLoader loader(dataset, probe_options(4, true), plan, 1);
      for (BatchCopy& batch : all_batches(loader)) {
        by_worker[static_cast<std::size_t>(batch.worker)].push_back(std::move(batch));
      }
    }
    return by_worker;
  };
  const auto expected = read(4);
  CHECK(expected[3].size() == 10);
  CHECK(read(2) == expected);
  CHECK(read(1) == expected);
}

TEST_CASE("loader: evaluation is one pass over every image, the rest of the last batch zero") {
  const auto dataset = std::make_shared<ProbeDataset>(23);
  for (const int threads : kThreadCounts) {
    std::vector<int> counts(23);
    for (int rank = 0; rank < 3; ++rank) {
      const SamplePlan plan{.part = Part::eval, .rank = rank, .workers = 3, .batch_per_worker = 5};
      BatchLoader loader(dataset, probe_options(8, true), plan, threads);
      const std::vector<BatchCopy> batches = all_batches(loader);
      REQUIRE(batches.size() == 2);
      CHECK(batches[1].count == (rank == 0 ? 5 : rank == 1 ? 3 : 0));
      for (const BatchCopy& batch : batches) {
        for (std::size_t j = 0; j < 5; ++j) {
          const float pixel = batch.images[j * kSize * kSize];
          if (static_cast<int>(j) < batch.count) {
            const auto index = static_cast<std::size_t>(std::lround(pixel));
            ++counts[index];
            CHECK(batch.labels[j] == static_cast<std::int32_t>(index % 10));
          } else {
            CHECK(pixel == 0.0F);
            CHECK(batch.images[(j + 1) * kSize * kSize - 1] == 0.0F);
            CHECK(batch.labels[j] == 0);
          }
        }
      }
    }
    CHECK(counts == std::vector<int>(23, 1));
  }
}

TEST_CASE("loader: memory is bounded and used again") {
  constexpr int kPrefetch = 3;
  constexpr int kBatch = 4;
  std::atomic<int> reads = 0;
  const auto dataset = std::make_shared<ProbeDataset>(400, [&](std::uint32_t) { ++reads; });
  BatchLoader loader(dataset, probe_options(kPrefetch), {.batch_per_worker = kBatch}, 2);
  std::set<const float*> memory;
  for (int taken = 1; const Batch* batch = loader.next(); ++taken) {
    memory.insert(batch->images.data());
    if (taken == 1) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    CHECK(reads <= (taken + kPrefetch) * kBatch);
  }
  CHECK(memory.size() == kPrefetch + 1);
  CHECK(reads == 400);
}

TEST_CASE("loader: an exception comes out of next() at the batch it belongs to, and stays") {
  for (const int threads : kThreadCounts) {
    CAPTURE(threads);
    const auto dataset = std::make_shared<ProbeDataset>(100, [](std::uint32_t index) {
      if (index >= 33) throw Error(ErrorKind::input, "image " + std::to_string(index) + " is damaged");
    });
    BatchLoader loader(dataset, probe_options(8), {.batch_per_worker = 10}, threads);
    for (int batch = 0; batch < 3; ++batch) CHECK(loader.next() != nullptr);
    for (int call = 0; call < 2; ++call) {
      CHECK(input_error([&] { loader.next(); }) == "image 33 is damaged");
    }
  }
}

TEST_CASE("loader: can be destroyed at any moment") {
  // In the middle of batches that would take 20 s.
  const auto slow = std::make_shared<ProbeDataset>(
      1000, [](std::uint32_t) { std::this_thread::sleep_for(std::chrono::milliseconds(20)); });
  const Stopwatch watch;
  for (const int threads : {1, 3}) {
    const BatchLoader loader(slow, probe_options(3), {.batch_per_worker = 1000}, threads);
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
  }
  CHECK(watch.elapsed_s() < 10);

  for (int round = 0; round < 50; ++round) {
    BatchLoader loader(std::make_shared<ProbeDataset>(100), probe_options(2), {.batch_per_worker = 5}, 2);
    for (int batch = 0; batch < round % 4; ++batch) loader.next();
  }
}

TEST_CASE("loader: threads have names; none is started that could not work") {
  std::mutex mutex;
  std::set<std::string> names;
  const auto dataset = std::make_shared<ProbeDataset>(100, [&](std::uint32_t) {
    std::array<char, 16> name{};
    pthread_getname_np(pthread_self(), name.data(), name.size());
    const std::lock_guard lock(mutex);
    names.insert(name.data());
  });
  {
    BatchLoader loader(dataset, probe_options(1), {.batch_per_worker = 1}, 5);
    all_batches(loader);
  }
  CHECK(names == std::set<std::string>{"dcs3gd-load0"});
}

TEST_CASE("loader: the number of threads") {
  CHECK(loader_thread_count(std::nullopt, -1) == 1);
  CHECK(loader_thread_count(std::nullopt, 0) == 1);
  CHECK(loader_thread_count(std::nullopt, 2) == 2);
  CHECK(loader_thread_count(std::nullopt, 100) == 4);
  CHECK(loader_thread_count(0, 3) == 0);
  CHECK(loader_thread_count(7, 0) == 7);
}

TEST_CASE("loader: what cannot be loaded") {
  const auto dataset = std::make_shared<ProbeDataset>(10);
  CHECK(contains(input_error([&] { BatchLoader(dataset, probe_options(), {.batch_per_worker = 11}, 0); }),
                 "found 10 images"));
  CHECK(contains(input_error([&] { BatchLoader(dataset, probe_options(0), {}, 1); }), "prefetch_batches"));
  CHECK(contains(input_error([&] { BatchLoader(dataset, probe_options(), {}, -1); }), "threads"));
  DataOptions other_size = probe_options();
  other_size.image_size = kSize + 1;
  CHECK_THROWS_AS(BatchLoader(dataset, other_size, {}, 1), Error);
}

}  // namespace dcs3gd::data
