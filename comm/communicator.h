#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "comm/all_reduce.h"
#include "comm/options.h"
#include "comm/placement.h"
#include "comm/schedule/topology.h"
#include "comm/transport.h"

namespace dcs3gd::comm {

class HostMemory;
class ScheduledAllReduce;

/// One rank's door to all others. Every rank calls the same collectives in the same order, from one thread; the work is
/// done by the rank's progress thread, on all operations at once, while the caller goes on.
///
/// Three worlds, one interface: MPI when the process was started by a launcher, threads of one process
/// (run_ranks_as_threads), and solo: one rank, where every operation finishes at once.
///
/// Errors: an operation without progress for Options::timeout_s throws Error{failure} that names rank, host, operation
/// and who is waited for; a warning comes long before, from the first rank and the last. Time in which this process is
/// suspended does not count. After any error the world is broken: all later calls throw, and abort() is what remains,
/// or regroup() if the error is that ranks are gone and the world can do without. Catch exceptions while the
/// communicator lives, and abort:
///
///   const auto communicator = Communicator::open(options);
///   try { train(*communicator); } catch (const Error& error) { communicator->abort(error.what(), error.exit_code()); }
class Communicator {
 public:
  using OpenTransport = std::function<std::unique_ptr<Transport>()>;

  /// The world that this process was started in: MPI under mpirun or srun, else solo (MPI is not even started). Throws
  /// Error{input} for options that do not fit together, or when N processes of a foreign launcher would each be alone.
  static std::unique_ptr<Communicator> open(const Options& options);
  /// A world of any kind; `open` is called in the progress thread. Returns when all ranks are there.
  Communicator(OpenTransport open, const Options& options);
  /// Waits until all ranks come here, then leaves the world. While an exception unwinds, or after an error, it aborts
  /// instead: the others must not wait for a rank that will not come.
  ~Communicator();
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const { return topology_.rank(); }
  int size() const { return topology_.size(); }
  /// Host and cores of every rank.
  const std::vector<RankPlace>& places() const { return places_; }
  /// Ranks on this rank's host, itself among them.
  int ranks_here() const { return host_topology_.size(); }
  const std::string& host() const { return places_[static_cast<std::size_t>(rank())].host; }

  /// Prepares an all-reduce; nothing travels before AllReducePlan::start(). For a single use:
  /// plan_all_reduce({.values = values}).start().wait(). All ranks plan in the same order: where memory is shared they
  /// tell each other where it is. That needs values from allocate(); else they travel.
  AllReducePlan plan_all_reduce(AllReduceSpec spec);
  /// Zeroed memory for what is averaged often: where the algorithm shares memory among the ranks of a host, memory that
  /// they share. Throws Error{failure} when memory is short.
  std::shared_ptr<float> allocate(std::size_t floats);
  /// The algorithm for so many floats of all ranks, when the options leave the choice (auto) and when not.
  std::string_view algorithm_for(std::size_t floats) const;
  /// The rest blocks.
  void barrier();
  /// Replaces the bytes on all ranks by rank 0's. The same length everywhere.
  void broadcast(std::span<std::byte> bytes);
  /// Everyone's text or blob, by rank.
  std::vector<std::string> all_gather(std::string_view mine);
  /// The same at rank 0 alone, where it may be large; nothing on the others.
  std::vector<std::string> gather_at_rank_0(std::string_view mine);
  /// Everyone's value, by rank: a number, or a struct of numbers, as it lies in memory.
  template <typename T>
  std::vector<T> gather(const T& mine);
  /// Rank 0's text on all ranks; the others' is not looked at.
  std::string from_rank_0(std::string_view text);

  /// Ends the whole job because of this rank: logs the reason with rank and host; under MPI ends all processes with
  /// this exit code and does not return; between threads the others' operations fail with the reason.
  void abort(std::string_view reason, int exit_code = 1);

  /// After an error: whether it came of ranks that are gone, and the others can go on without them. MPI's worlds can
  /// with ULFM (Open MPI 5: mpirun --with-ft ulfm).
  bool has_lost_ranks() const;
  /// Then: the ranks that are left become a world of their own, counted anew in their old order. Plans of before must
  /// be gone. Collective among them; returns who is lost: "rank 3 on node4". Throws Error{failure}; has_lost_ranks()
  /// tells whether to try again.
  std::string regroup();

  /// Tells how long this rank computed between two operations: others may need as long, so the time-out is at least
  /// five times the longest.
  void allow_for(double compute_s);

  /// Confines the progress thread to Options::core, or to a spare core if this rank's `compute_threads` and those of
  /// its neighbours leave one. Returns the core; none if it stays free to roam. A refusal is a logged warning.
  std::optional<int> pin_progress_thread(int compute_threads);

  /// For benchmarks: the milliseconds of the world's bare all-reduce; none if it has none. Lengths are equal; `source`
  /// is not read for NativeCall::in_place.
  std::optional<double> time_native_all_reduce(NativeCall call, std::span<const float> source, std::span<float> target);

 private:
  void meet();
  bool find_twins(const std::vector<std::vector<int>>& hosts);
  void share_memory();
  bool can_share_memory(const Topology& topology) const;
  std::optional<AllReducePlan> plan_in_shared_memory(const AllReduceSpec& spec, const Topology& topology,
                                                     const AlgorithmInfo& algorithm);
  std::unique_ptr<ScheduledAllReduce> make_scheduled(const AllReduceSpec& spec, const Topology& topology,
                                                     const AlgorithmInfo& algorithm);
  void warn_of_short_memory(std::size_t floats) const;
  bool is_true_on_all(bool here);
  double run(std::unique_ptr<Operation> operation);
  std::vector<std::string> gather_blobs(std::string_view what, std::string_view mine);
  std::vector<std::string> gather_blobs(std::string_view what, std::string_view mine, const Topology& among);

  // Constant after construction, but for regroup().
  const Options options_;
  const int exceptions_at_start_;
  std::unique_ptr<ProgressThread> progress_;
  Topology topology_;
  Topology host_by_host_;     ///< with the ranks of a host as neighbours, whatever numbers they have
  Topology host_topology_;    ///< of the ranks on this host
  Topology twin_topology_;    ///< of the ranks that have this rank's place on their hosts, if hosts have equally many
  Topology first_topology_;   ///< of the ranks that the job began with
  std::vector<int> members_;  ///< their numbers then of the ranks that are there now
  std::vector<RankPlace> places_;
  std::size_t segment_bytes_ = 0;
  std::shared_ptr<HostMemory> host_memory_;
  bool shares_memory_ = false;      ///< the ranks of this host have each other's memory
  bool all_hosts_share_ = false;    ///< those of each of several hosts, which have equally many ranks
  std::uint64_t shared_plans_ = 0;  ///< that were made since
};

template <typename T>
std::vector<T> Communicator::gather(const T& mine) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::vector<T> all(static_cast<std::size_t>(size()));
  auto* target = all.data();
  for (const std::string& blob : gather_blobs("all-gather", {reinterpret_cast<const char*>(&mine), sizeof(T)})) {
    std::memcpy(target++, blob.data(), std::min(blob.size(), sizeof(T)));
  }
  return all;
}

}  // namespace dcs3gd::comm
