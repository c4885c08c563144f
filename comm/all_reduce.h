#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "comm/options.h"
#include "comm/schedule/algorithms.h"

namespace dcs3gd::comm {

class Job;
class ProgressThread;

/// Over whom an all-reduce sums.
enum class Group {
  all,
  host,  ///< the ranks on this rank's host
};

/// What an all-reduce averages, in place. All ranks plan the same lengths, factor, wire and algorithm.
struct AllReduceSpec {
  std::span<float> values;     ///< become factor · Σ over ranks, the same bits on all ranks if a schedule made them
  std::span<float> tail = {};  ///< a few more: become Σ over ranks; travel in fp32 on any wire, are not scaled
  std::optional<float> factor = {};  ///< scales the sum; none: 1/ranks, the mean. 1/(K·ranks) if each rank adds up K
  Group group = Group::all;
  /// The averages may stay where they were summed, as AllReducePlan::parts() tells, and values then hold anything.
  bool leaves_parts = false;
  int urgency = 0;  ///< while an all-reduce with a smaller one is in flight, this one takes little of the link
  std::optional<Wire> wire = {};             ///< none: Options::wire, within a host fp32
  const AlgorithmInfo* algorithm = nullptr;  ///< none: Options::algorithm
  /// As many as values, or none: what rounding on a narrow wire has lost on this rank so far, in the units of the sum.
  /// It is added to what this rank rounds next, so that over many all-reduces nothing is lost. 0 at first.
  std::span<float> losses = {};
};

/// Averages in a row: those of the values from `first` on.
struct ResultPart {
  std::size_t first = 0;
  std::span<const float> values;
};

/// What an all-reduce took, by the progress thread's clock.
struct AllReduceResult {
  double start_ms = 0;       ///< since some moment in the past
  double all_reduce_ms = 0;  ///< from its start to its completion
};

/// The right to the result of an all-reduce that runs in the progress thread. Until wait() has returned, its buffers
/// belong to the operation: they may be neither read nor written nor freed. Movable, not copyable; one thread at a
/// time. A ticket must not outlive its communicator.
class Ticket {
 public:
  Ticket(ProgressThread& progress, std::shared_ptr<Job> job);
  Ticket(Ticket&& other) noexcept = default;
  /// Settles the ticket that is replaced, as the destructor does.
  Ticket& operator=(Ticket&& other) noexcept;
  /// Blocks until the operation is over (at most the time-out), so that no buffer goes while it is used. Dropping a
  /// ticket that nobody waited for is a mistake, but for unwinding after an exception: it is logged as an error.
  ~Ticket();

  /// Blocks until the result is there. Throws what ended the operation, and Error{failure} when called twice.
  AllReduceResult wait();

 private:
  void settle() noexcept;

  ProgressThread* progress_;
  std::shared_ptr<Job> job_;  ///< empty after wait() or a move
};

/// An all-reduce that is prepared once and started any number of times: what MPI-4 calls a persistent collective. It
/// owns its staging memory, so that a start allocates nothing. Several plans may be in flight at once; all ranks start
/// the same plans in the same order. Movable, not copyable; one thread at a time. It must not outlive its communicator.
class AllReducePlan {
 public:
  /// What the plan is, beside its job.
  struct Properties {
    std::string_view algorithm;
    std::span<float> values;
    std::vector<ResultPart> parts;
    std::size_t staging_bytes = 0;
    bool needs_no_other_rank = false;
  };

  AllReducePlan(ProgressThread& progress, std::shared_ptr<Job> job, Properties properties)
      : progress_(&progress), job_(std::move(job)), properties_(std::move(properties)) {}
  AllReducePlan(AllReducePlan&&) noexcept = default;
  AllReducePlan& operator=(AllReducePlan&&) noexcept = default;

  /// Starts averaging and returns at once. Until Ticket::wait() has returned, values and tail belong to the operation;
  /// the plan itself may go before. Throws Error{failure} while the ticket of the last start has not been waited for.
  Ticket start();

  /// Where the averages lie, in their order, from each Ticket::wait() to the next start() and while the plan is there:
  /// all of them in the values, but for AllReduceSpec::leaves_parts.
  std::span<const ResultPart> parts() const { return properties_.parts; }
  /// Calls use(how many values after `first` it begins, averages) for each part of `count` averages from `first` on.
  template <typename Use>
  void for_each_part(std::size_t first, std::size_t count, const Use& use) const;
  /// Brings all averages into the values.
  void copy_back();
  /// As in the table of algorithms.
  std::string_view algorithm() const { return properties_.algorithm; }
  /// Memory beside the values and the tail.
  std::size_t staging_bytes() const { return properties_.staging_bytes; }

 private:
  ProgressThread* progress_;
  std::shared_ptr<Job> job_;  ///< shared with the ticket and the progress thread
  Properties properties_;
};

template <typename Use>
void AllReducePlan::for_each_part(std::size_t first, std::size_t count, const Use& use) const {
  for (const ResultPart& part : properties_.parts) {
    const std::size_t begin = std::max(first, part.first);
    const std::size_t end = std::min(first + count, part.first + part.values.size());
    if (begin < end) use(begin - first, part.values.subspan(begin - part.first, end - begin));
  }
}

}  // namespace dcs3gd::comm
