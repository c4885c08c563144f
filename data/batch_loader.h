#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "data/batch.h"
#include "data/dataset.h"
#include "data/read_buffers.h"
#include "data/sampler.h"
#include "data/transform/sample_transform.h"

namespace dcs3gd::data {

/// Returns the number of loader threads: what the configuration says, or if that is `auto` one per core that computing
/// leaves idle, at least 1 and at most 4.
int loader_thread_count(std::optional<int> configured, int spare_cores);

/// Makes this rank's batches ahead of time, in threads of its own, and hands them out in the order of the Sampler: step
/// by step, in each step worker by worker. A batch is made by one thread as a whole: threads take the next batch
/// number, wait until its slot is free, and fill it. The batches are the same, bit for bit, for every number of
/// threads; with 0 threads next() makes them. The memory is fixed: prefetch_batches + 1 batches, used in turn.
///
/// An image that cannot be read ends the run (next() throws), or is replaced: in training by the next image of the data
/// set that can, with the epoch and the random changes of the one it stands for; in evaluation it is left out. So that
/// too is the same on every number of ranks and threads. Where too many cannot be read the run ends in any case.
///
/// next() belongs to one consumer thread. Destruction at any moment waits for the images at work only.
class BatchLoader {
 public:
  /// Threads beyond options.loader.prefetch_batches would have nothing to fill and are not started. Throws what Sampler
  /// and SampleTransform throw.
  BatchLoader(std::shared_ptr<const Dataset> dataset, const DataOptions& options, const SamplePlan& plan, int threads);
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;
  ~BatchLoader();

  /// The next batch, or nullptr after the last. Its memory is reused by the following call of next(). An exception met
  /// while the batch was made comes out here, and again at every later call.
  const Batch* next();

  /// Milliseconds the consumer has spent in next() since it last asked here.
  double take_wait_ms() { return std::exchange(wait_ms_, 0); }
  /// Images replaced or left out so far, in all batches made.
  std::int64_t bad_images() const { return bad_images_; }

 private:
  /// The order of an epoch, made once by the thread that needs it first; the others wait for that, the mutex is free.
  struct EpochOrder {
    std::int64_t epoch = -1;
    std::once_flag made;
    std::vector<std::uint32_t> order;
  };
  struct Slot {
    Batch batch;
    std::vector<std::uint8_t> pixels;  ///< one image as read
    ReadBuffers buffers;
    bool ready = false;        ///< guarded by mutex_
    std::exception_ptr error;  ///< set before ready
  };

  void run(const std::stop_token& stop, int thread);
  /// REQUIRES mutex_, which is released while the batch is made: takes the next batch number and fills its slot.
  void make_batch(std::unique_lock<std::mutex>& lock, const std::stop_token& stop);
  /// REQUIRES mutex_. Batch numbers are taken in order, so the epochs asked for never go back. Not yet made.
  std::shared_ptr<EpochOrder> order_of(std::int64_t epoch);
  /// Gives up early, leaving the batch unfinished, once `stop` is requested.
  void fill(const BatchPlace& place, const std::vector<std::uint32_t>& order, Slot& slot, const std::stop_token& stop);
  /// Reads an image, or the one that replaces it, into slot.pixels. Returns its label; none if it is left out.
  std::optional<std::int32_t> read(std::uint32_t index, std::int64_t epoch, Slot& slot);
  /// Counts an image that cannot be read; next() warns of it once. Throws if the options say so.
  void pass_over(std::uint32_t index, const std::string& problem);
  Slot& slot_of(std::int64_t number) { return slots_[static_cast<std::size_t>(number) % slots_.size()]; }

  // Constant after construction.
  std::shared_ptr<const Dataset> dataset_;
  Sampler sampler_;
  SampleTransform transform_;
  Part part_;
  OnBadImage on_bad_image_;
  std::int64_t batch_count_;

  // A slot belongs to the thread that makes its batch until it is ready, then to the consumer until its next call.
  std::vector<Slot> slots_;

  std::mutex mutex_;
  std::condition_variable_any slot_free_;
  std::condition_variable_any batch_ready_;
  // Guarded by mutex_.
  std::int64_t next_batch_ = 0;  ///< to be made
  std::int64_t consumed_ = 0;    ///< batches the consumer has given back
  std::shared_ptr<EpochOrder> order_;
  std::set<std::uint32_t> known_bad_images_;
  std::vector<std::string> warnings_;  ///< not yet said: the log belongs to the consumer's thread

  std::atomic<std::int64_t> bad_images_ = 0;

  // Only the consumer.
  std::int64_t handed_out_ = 0;
  double wait_ms_ = 0;

  std::vector<std::jthread> threads_;  ///< last: stopped before anything they use goes away
};

}  // namespace dcs3gd::data
