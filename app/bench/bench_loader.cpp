#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <vector>

#include <nlohmann/json.hpp>

#include "app/bench/bench_statistics.h"
#include "app/bench/benchmarks.h"
#include "app/job/parallel_tasks.h"
#include "core/error.h"
#include "core/format.h"
#include "core/stopwatch.h"
#include "data/formats.h"
#include "data/paths.h"
#include "data/photos/image_decoder.h"
#include "data/photos/open_photos.h"
#include "data/photos/photo_dataset.h"
#include "data/read_buffers.h"
#include "data/transform/sample_transform.h"

namespace dcs3gd::app {
namespace {

/// Enough to leave the caches, few enough to hold in memory.
constexpr std::uint32_t kMaxImages = 512;

/// A thread's share of the images, with the memory it works in.
struct Worker {
  std::uint32_t first = 0;
  std::uint32_t end = 0;
  data::ReadBuffers buffers;
  std::vector<std::uint8_t> pixels;
  std::vector<float> image;
};

void throw_if(const std::string& problem) {
  if (!problem.empty()) throw Error(ErrorKind::input, problem);
}

class LoaderBench {
 public:
  explicit LoaderBench(const LoaderBenchOptions& options)
      : options_(options), photos_(open_training_photos(options.data)), transform_(transform(options)) {
    const std::uint32_t images = std::min(photos_.source->size(), kMaxImages);
    for (std::uint32_t number = 0; number < images; ++number) {
      // Spread over the classes.
      indices_.push_back(static_cast<std::uint32_t>(std::uint64_t{number} * photos_.source->size() / images));
      throw_if(photos_.source->fetch(indices_.back(), files_.emplace_back()));
    }
    const std::size_t image_bytes =
        std::size_t{3} * static_cast<std::size_t>(options.image_size) * static_cast<std::size_t>(options.image_size);
    const auto threads = static_cast<std::uint32_t>(options.threads);
    for (std::uint32_t thread = 0; thread < threads; ++thread) {
      Worker& worker = workers_.emplace_back();
      worker.first = images * thread / threads;
      worker.end = images * (thread + 1) / threads;
      worker.pixels.resize(image_bytes);
      worker.image.resize(image_bytes);
    }
  }

  void run() {
    std::vector<double> loading_ms;
    std::vector<double> decoding_ms;
    const auto load = [this](Worker& worker, std::uint32_t number) { load_image(worker, number); };
    const auto decode = [this](Worker& worker, std::uint32_t number) { decode_image(worker, number); };
    time_pass(load);
    time_pass(decode);
    const Stopwatch watch;
    do {
      ++epoch_;
      loading_ms.push_back(time_pass(load));
      decoding_ms.push_back(time_pass(decode));
    } while (watch.elapsed_s() < options_.seconds);
    report(summarize(loading_ms), summarize(decoding_ms));
  }

 private:
  static data::Photos open_training_photos(const std::string& path) {
    std::error_code ignored;
    const std::string found = std::filesystem::exists(path, ignored) ? path : data::resolve_data_path(path);
    const std::string folder = data::part_folder(found, data::Part::train);
    return data::open_photos(folder, data::photo_form(folder));
  }

  static data::SampleTransform transform(const LoaderBenchOptions& options) {
    data::DataOptions data;
    data.format = "image_folder";
    data.image_size = options.image_size;
    data.augment.random_resized_crop = true;
    data.augment.horizontal_flip = true;
    return {data, data::normalization_of(data), data::Part::train, 1};
  }

  void load_image(Worker& worker, std::uint32_t number) {
    const std::uint32_t index = indices_[number];
    throw_if(photos_.source->fetch(index, worker.buffers.file));
    const data::CropRule crop_rule = transform_.crop_rule(epoch_, index);
    throw_if(data::decode_photo(worker.buffers.file, crop_rule, 3, worker.buffers.image, worker.pixels));
    transform_.apply(worker.pixels, epoch_, index, worker.image);
  }

  void decode_image(Worker& worker, std::uint32_t number) {
    throw_if(data::decode_image(files_[number], data::CropRule::whole(), worker.buffers.image));
  }

  /// Milliseconds in which each image is handled once.
  double time_pass(const std::function<void(Worker&, std::uint32_t)>& handle) {
    const Stopwatch watch;
    run_tasks(workers_.size(), options_.threads, [&](std::uint64_t thread) {
      Worker& worker = workers_[thread];
      for (std::uint32_t number = worker.first; number < worker.end; ++number) handle(worker, number);
    });
    return watch.elapsed_ms();
  }

  void report(const TimingSummary& loading, const TimingSummary& decoding) const {
    const auto per_s = [this](double pass_ms) { return 1e3 * static_cast<double>(indices_.size()) / pass_ms; };
    const double images_per_s = per_s(loading.median);
    const double bound = per_s(decoding.median);
    if (options_.json) {
      const nlohmann::ordered_json line = {{"bench", "loader"},
                                           {"threads", options_.threads},
                                           {"images_per_s", images_per_s},
                                           {"images_per_s_per_thread", images_per_s / options_.threads},
                                           {"bound_images_per_s", bound},
                                           {"image_size", options_.image_size},
                                           {"images", indices_.size()},
                                           {"n", loading.n}};
      std::printf("%s\n", line.dump().c_str());
      return;
    }
    std::printf("%s\n", photos_.summary.c_str());
    std::printf("loading   %8.1f img/s, %.1f per thread: fetch, decode, random %d-pixel crop, flip, normalise\n",
                images_per_s, images_per_s / options_.threads, options_.image_size);
    std::printf("          passes over %zu images  %s\n", indices_.size(), format_ms(loading).c_str());
    std::printf("decoding  %8.1f img/s: the decoders alone, whole images; loading / decoding = %.2f\n", bound,
                images_per_s / bound);
    std::printf("          passes over %zu images  %s\n", indices_.size(), format_ms(decoding).c_str());
  }

  LoaderBenchOptions options_;
  data::Photos photos_;
  data::SampleTransform transform_;
  std::vector<std::uint32_t> indices_;
  std::vector<std::vector<std::uint8_t>> files_;
  std::vector<Worker> workers_;
  std::int64_t epoch_ = 0;
};

}  // namespace

void bench_loader(const LoaderBenchOptions& options) { LoaderBench(options).run(); }

}  // namespace dcs3gd::app
