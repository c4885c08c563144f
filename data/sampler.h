#pragma once

#include <cstdint>
#include <vector>

#include "data/epoch_plan.h"
#include "data/options.h"

namespace dcs3gd::data {

/// Says who reads how much. Training: N workers on N / K ranks, K of them on this rank. Evaluation: one worker per
/// rank, one pass, and the epoch fields keep their defaults.
struct SamplePlan {
  Part part = Part::train;
  std::uint64_t seed = 1;
  int rank = 0;
  int workers_per_rank = 1;      ///< K
  int workers = 1;               ///< N, over all ranks
  int batch_per_worker = 1;      ///< B, images
  std::int64_t start_epoch = 0;  ///< the epochs read are start_epoch … epochs − 1
  std::int64_t epochs = 1;
  std::int64_t start_sample = 0;  ///< images of start_epoch that all workers together have used before
};

/// One batch of one worker: the images order[first] … order[first + count − 1] of its epoch.
struct BatchPlace {
  std::int64_t epoch = 0;
  std::int64_t step = 0;   ///< in the epoch, from 0; in start_epoch counted from start_sample
  int worker = 0;          ///< over all ranks
  std::int64_t first = 0;  ///< position in the epoch's order
  int count = 0;           ///< images: B, or less (even 0) at the end of an evaluation
};

/// Decides which images each worker reads at each step. At step s of an epoch, worker i reads at position j of its
/// batch
///
///   order[start + s·B·N + i·B + j]        start = start_sample in start_epoch, 0 in later epochs
///
/// where `order` is a permutation of all images that depends on (seed, epoch) alone, or the identity without shuffling.
/// So a run may go on in mid-epoch with another N or B, after what was used. Training drops an incomplete last global
/// batch; evaluation reads every image exactly once, the last batches being shorter, with as many batches on every
/// rank. Immutable: pure functions of the construction.
class Sampler {
 public:
  /// `shuffle` counts for training only. Throws Error{input} if training has not even one global batch, or if
  /// start_sample lies beyond the last image.
  Sampler(const SamplePlan& plan, std::uint32_t images, bool shuffle);

  /// Steps of a whole epoch.
  std::int64_t steps_per_epoch() const { return epochs_.steps_per_epoch(); }
  /// Batches of this rank over all epochs.
  std::int64_t batch_count() const { return epochs_.end() * plan_.workers_per_rank; }
  /// This rank's batch `index` (0 … batch_count() − 1): step by step, in each step worker by worker.
  BatchPlace at(std::int64_t index) const;
  /// The order of an epoch.
  std::vector<std::uint32_t> order(std::int64_t epoch) const;

 private:
  SamplePlan plan_;
  std::int64_t images_;
  EpochPlan epochs_;
  bool shuffle_;
};

}  // namespace dcs3gd::data
