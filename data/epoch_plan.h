#pragma once

#include <cstdint>

namespace dcs3gd::data {

/// The position of a run between two steps.
struct Position {
  std::int64_t step = 0;    ///< steps done
  std::int64_t epoch = 0;   ///< epochs done
  std::int64_t images = 0;  ///< of the epoch that has begun, used by all workers together

  bool operator==(const Position&) const = default;
};

/// Tells which step belongs to which epoch, from any position on: a run may go on in mid-epoch with another global
/// batch, after the images it has used. An epoch ends when what is left of it is less than a global batch. A pure
/// function of its construction.
class EpochPlan {
 public:
  /// `images` of an epoch, `global_batch` images a step, at least one step an epoch.
  EpochPlan(const Position& start, std::int64_t images, std::int64_t global_batch, std::int64_t epochs);

  const Position& start() const { return start_; }
  /// The number of steps done when the last epoch is.
  std::int64_t end() const;
  std::int64_t steps_per_epoch() const { return images_ / global_batch_; }
  /// The position when this many steps are done, start().step or more.
  Position at(std::int64_t steps_done) const;
  /// The epochs that have begun when this many steps are done: the number, from 1, of the last step's epoch.
  std::int64_t epochs_begun(std::int64_t steps_done) const;
  bool ends_epoch(std::int64_t step) const { return at(step + 1).images == 0; }
  /// The step number to ask the learning-rate schedule for, after the global batch has changed: the one that this step
  /// would have had the run always had this global batch.
  std::int64_t schedule_step(std::int64_t step) const;

 private:
  std::int64_t steps_left_in_first_epoch() const { return (images_ - start_.images) / global_batch_; }

  Position start_;
  std::int64_t images_;
  std::int64_t global_batch_;
  std::int64_t epochs_;
};

}  // namespace dcs3gd::data
