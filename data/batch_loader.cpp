#include "data/batch_loader.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/format.h"
#include "core/helper_thread.h"
#include "core/log.h"
#include "core/stopwatch.h"
#include "core/trace.h"
#include "data/formats.h"

namespace dcs3gd::data {
namespace {

constexpr int kMaxAutoThreads = 4;
/// So many images in a row that cannot be read are no accident.
constexpr int kMaxBadImagesInARow = 64;
/// A data set of which this rank has met so many is not the one that was meant.
std::size_t most_bad_images(std::uint32_t images) { return std::max<std::size_t>(kMaxBadImagesInARow, images / 20); }

}  // namespace

int loader_thread_count(std::optional<int> configured, int spare_cores) {
  return configured.value_or(std::clamp(spare_cores, 1, kMaxAutoThreads));
}

BatchLoader::BatchLoader(std::shared_ptr<const Dataset> dataset, const DataOptions& options, const SamplePlan& plan,
                         int threads)
    : dataset_(std::move(dataset)),
      sampler_(plan, dataset_->size(), options.shuffle),
      transform_(options, normalization_of(options), plan.part, plan.seed),
      part_(plan.part),
      on_bad_image_(options.loader.on_bad_image),
      batch_count_(sampler_.batch_count()) {
  if (threads < 0 || options.loader.prefetch_batches < 1) {
    throw Error(ErrorKind::input,
                format("data.loader: expected threads >= 0 and prefetch_batches >= 1, found {} and {}", threads,
                       options.loader.prefetch_batches));
  }
  const std::size_t plane = static_cast<std::size_t>(options.image_size) * static_cast<std::size_t>(options.image_size);
  if (dataset_->image_bytes() != static_cast<std::size_t>(options.channels) * plane) {
    throw Error(ErrorKind::failure,
                format("batch loader: expected images of {} bytes, the data set has images of {}",
                       static_cast<std::size_t>(options.channels) * plane, dataset_->image_bytes()));
  }
  threads = std::min(threads, options.loader.prefetch_batches);
  const auto batch_size = static_cast<std::size_t>(plan.batch_per_worker);
  slots_.resize(threads == 0 ? 1 : static_cast<std::size_t>(options.loader.prefetch_batches) + 1);
  for (Slot& slot : slots_) {
    slot.batch.images = AlignedBuffer<float>(batch_size * dataset_->image_bytes());
    slot.batch.labels.resize(batch_size);
    slot.batch.indices.resize(batch_size);
    slot.pixels.resize(dataset_->image_bytes());
  }
  for (int thread = 0; thread < threads; ++thread) {
    threads_.emplace_back([this, thread](const std::stop_token& stop) { run(stop, thread); });
  }
}

BatchLoader::~BatchLoader() {
  for (std::jthread& thread : threads_) thread.request_stop();
}

const Batch* BatchLoader::next() {
  const Stopwatch watch;
  std::unique_lock lock(mutex_);
  if (consumed_ < handed_out_) {
    slot_of(consumed_).ready = false;
    ++consumed_;
    slot_free_.notify_all();
  }
  if (handed_out_ == batch_count_) return nullptr;
  Slot& slot = slot_of(handed_out_);
  if (threads_.empty() && !slot.ready) make_batch(lock, {});
  batch_ready_.wait(lock, [&slot] { return slot.ready; });
  for (const std::string& warning : std::exchange(warnings_, {})) log::warn(warning);
  if (slot.error) std::rethrow_exception(slot.error);
  ++handed_out_;
  wait_ms_ += watch.elapsed_ms();
  return &slot.batch;
}

void BatchLoader::run(const std::stop_token& stop, int thread) {
  begin_helper_thread(format("dcs3gd-load{}", thread));
  const auto slot_count = static_cast<std::int64_t>(slots_.size());
  const auto can_go_on = [&] { return next_batch_ == batch_count_ || next_batch_ < consumed_ + slot_count; };
  std::unique_lock lock(mutex_);
  while (slot_free_.wait(lock, stop, can_go_on) && !stop.stop_requested() && next_batch_ < batch_count_) {
    make_batch(lock, stop);
  }
}

void BatchLoader::make_batch(std::unique_lock<std::mutex>& lock, const std::stop_token& stop) {
  const std::int64_t number = next_batch_++;
  const BatchPlace place = sampler_.at(number);
  Slot& slot = slot_of(number);
  try {
    const std::shared_ptr<EpochOrder> order = order_of(place.epoch);
    lock.unlock();
    std::call_once(order->made, [&] { order->order = sampler_.order(place.epoch); });
    fill(place, order->order, slot, stop);
  } catch (...) {
    slot.error = std::current_exception();
  }
  if (!lock.owns_lock()) lock.lock();
  slot.ready = true;
  batch_ready_.notify_one();
}

std::shared_ptr<BatchLoader::EpochOrder> BatchLoader::order_of(std::int64_t epoch) {
  if (order_ == nullptr || order_->epoch != epoch) {
    order_ = std::make_shared<EpochOrder>();
    order_->epoch = epoch;
  }
  return order_;
}

void BatchLoader::fill(const BatchPlace& place, const std::vector<std::uint32_t>& order, Slot& slot,
                       const std::stop_token& stop) {
  const trace::Span span("loader", "batch");
  Batch& batch = slot.batch;
  batch.epoch = place.epoch;
  batch.step = place.step;
  batch.worker = place.worker;
  const std::size_t image_floats = dataset_->image_bytes();
  const auto wanted = static_cast<std::size_t>(place.count);
  std::size_t count = 0;
  for (std::size_t position = 0; position < wanted && !stop.stop_requested(); ++position) {
    const std::uint32_t index = order[static_cast<std::size_t>(place.first) + position];
    const std::optional<std::int32_t> label = read(index, place.epoch, slot);
    if (!label) continue;
    batch.labels[count] = *label;
    batch.indices[count] = index;
    transform_.apply(slot.pixels, place.epoch, index, batch.images.span().subspan(count * image_floats, image_floats));
    ++count;
  }
  batch.count = static_cast<int>(count);
  std::fill(batch.images.begin() + count * image_floats, batch.images.end(), 0.0F);
  std::fill(batch.labels.begin() + batch.count, batch.labels.end(), 0);
  transform_.mix(place.first, batch);
}

std::optional<std::int32_t> BatchLoader::read(std::uint32_t index, std::int64_t epoch, Slot& slot) {
  const CropRule crop_rule = transform_.crop_rule(epoch, index);
  for (int attempt = 0; attempt < kMaxBadImagesInARow; ++attempt) {
    const ReadResult result = dataset_->read(index, crop_rule, slot.buffers, slot.pixels);
    if (result.problem.empty()) return result.label;
    pass_over(index, result.problem);
    if (part_ == Part::eval) return std::nullopt;
    index = (index + 1) % dataset_->size();
  }
  throw Error(ErrorKind::failure,
              format("{} images in a row cannot be read, up to image {} of {}; check the data set and its storage",
                     kMaxBadImagesInARow, index, dataset_->size()));
}

void BatchLoader::pass_over(std::uint32_t index, const std::string& problem) {
  if (on_bad_image_ == OnBadImage::error) {
    throw Error(
        ErrorKind::failure,
        format("{}; mend the file, or go on without it: data.loader.on_bad_image: skip; dcs3gd-data verify finds "
               "all such files",
               problem));
  }
  ++bad_images_;
  const std::lock_guard lock(mutex_);
  if (known_bad_images_.insert(index).second) warnings_.push_back(format("{}; passed over", problem));
  const std::size_t bad = known_bad_images_.size();
  if (on_bad_image_ != OnBadImage::skip_all && bad > most_bad_images(dataset_->size())) {
    throw Error(
        ErrorKind::failure,
        format("{}; that makes {} of {} images that this rank cannot read, too many to go on without; dcs3gd-data "
               "verify finds all",
               problem, bad, dataset_->size()));
  }
}

}  // namespace dcs3gd::data
