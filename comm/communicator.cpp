#include "comm/communicator.h"

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <utility>

#include "comm/collectives.h"
#include "comm/host_memory.h"
#include "comm/launcher.h"
#include "comm/mpi_transport.h"
#include "comm/native_all_reduce.h"
#include "comm/progress_thread.h"
#include "comm/schedule/chunks.h"
#include "comm/scheduled_all_reduce.h"
#include "comm/shared_all_reduce.h"
#include "comm/thread_world.h"
#include "core/aligned_buffer.h"
#include "core/error.h"
#include "core/format.h"
#include "core/log.h"

namespace dcs3gd::comm {
namespace {

constexpr std::size_t kLineBytes = kLineFloats * sizeof(float);
// Defaults; README.md has the measurements. On one machine few large copies win. Between machines a segment stays below
// the 64 KiB that MPI sends over TCP without asking first; probably the answer queues after the data that comes back.
constexpr std::size_t kSegmentBytesOnOneHost = std::size_t{1} << 20;
constexpr std::size_t kSegmentBytesBetweenHosts = std::size_t{60} << 10;
constexpr std::size_t kMaxSegmentBytes = std::size_t{1} << 30;

/// The options as they are, if they hold together.
const Options& checked(const Options& options) {
  if (const std::string clash = clash_with_wire(options.algorithm, options.wire); !clash.empty()) {
    throw Error(ErrorKind::input, "comm.wire: " + clash);
  }
  if (options.segment_bytes && (*options.segment_bytes < kLineBytes || *options.segment_bytes > kMaxSegmentBytes)) {
    throw Error(ErrorKind::input, format("comm.segment_bytes: {} is not between {} and {}", *options.segment_bytes,
                                         kLineBytes, kMaxSegmentBytes));
  }
  if (!(options.timeout_s > 0)) {
    throw Error(ErrorKind::input, format("comm.timeout_s: {} is not more than 0", options.timeout_s));
  }
  return options;
}

bool are_on_several_hosts(const std::vector<RankPlace>& places) {
  return std::ranges::any_of(places, [&](const RankPlace& place) { return place.host != places.front().host; });
}

/// The same on all ranks, for all know all places.
std::size_t segment_bytes(const Options& options, bool between_hosts) {
  const std::size_t wanted =
      options.segment_bytes.value_or(between_hosts ? kSegmentBytesBetweenHosts : kSegmentBytesOnOneHost);
  return wanted / kLineBytes * kLineBytes;
}

}  // namespace

std::unique_ptr<Communicator> Communicator::open(const Options& options) {
  const std::optional<Launch> launch = find_launch(std::getenv);
  if (launch && launch->ranks.value_or(2) > 1) {
    return std::make_unique<Communicator>([launch] { return open_mpi_transport(*launch); }, options);
  }
  return std::make_unique<Communicator>([] { return open_thread_transport(make_thread_world(1), 0); }, options);
}

Communicator::Communicator(OpenTransport open, const Options& options)
    : options_(checked(options)),
      exceptions_at_start_(std::uncaught_exceptions()),
      progress_(std::make_unique<ProgressThread>(std::move(open), options.timeout_s)),
      topology_(progress_->transport().rank(), progress_->transport().size()),
      host_by_host_(topology_),
      host_topology_(topology_),
      twin_topology_(topology_),
      first_topology_(topology_) {
  try {
    meet();
    first_topology_ = topology_;
    members_ = gather(rank());
  } catch (const std::exception& exception) {
    abort(exception.what());
    throw;
  }
}

Communicator::~Communicator() {
  if (std::uncaught_exceptions() > exceptions_at_start_) {
    abort("an exception ended this rank");
  } else if (progress_->failed()) {
    if (!has_lost_ranks()) progress_->abort(1, "communication failed");  // whoever waited has thrown the cause already
  } else {
    try {
      gather_blobs("farewell of all ranks", "");
    } catch (const std::exception& exception) {
      if (!has_lost_ranks()) abort(exception.what());  // who has come to the end needs the lost no more
    }
  }
  progress_.reset();  // first of all members: its thread uses the others
}

/// Everything that depends on who is there and where.
void Communicator::meet() {
  topology_ = host_topology_ = Topology(progress_->transport().rank(), progress_->transport().size());
  std::vector<std::string> host_names;
  places_.clear();
  for (const std::string& blob : gather_blobs("meeting of all ranks", pack(find_own_place()))) {
    places_.push_back(unpack_place(blob));
    host_names.push_back(places_.back().host);
  }
  topology_ = Topology(rank(), size(), std::move(host_names), options_.ranks_per_host);
  host_by_host_ = topology_.host_by_host();
  const std::vector<std::vector<int>> hosts = topology_.ranks_by_host();
  for (const std::vector<int>& ranks : hosts) {
    if (std::ranges::count(ranks, rank()) > 0) host_topology_ = topology_.part(ranks);
  }
  const bool between_hosts = are_on_several_hosts(places_);
  progress_->set_between_hosts(between_hosts);
  segment_bytes_ = segment_bytes(options_, between_hosts);
  const bool are_several = hosts.size() > 1;
  const bool shares = may_share_memory(options_.algorithm, Wire::fp32) ||
                      (are_several && find_algorithm(options_.algorithm).shares_within_hosts);
  if (shares) {
    share_memory();
  } else {
    shares_memory_ = false;  // after regroup(), of the hosts of before
    host_memory_.reset();
  }
  all_hosts_share_ = false;
  if (!shares || !are_several || !find_twins(hosts)) return;
  all_hosts_share_ = is_true_on_all(shares_memory_);
}

/// Sets twin_topology_ if hosts have equally many ranks, and several; else false.
bool Communicator::find_twins(const std::vector<std::vector<int>>& hosts) {
  const std::size_t here = hosts.front().size();
  if (here == 1 || std::ranges::any_of(hosts, [&](const auto& ranks) { return ranks.size() != here; })) return false;
  std::vector<int> twins;
  twins.reserve(hosts.size());
  for (const std::vector<int>& ranks : hosts) twins.push_back(ranks[static_cast<std::size_t>(host_topology_.rank())]);
  twin_topology_ = topology_.part(std::move(twins));
  return true;
}

/// Among the ranks of each host; all of them or none.
void Communicator::share_memory() {
  if (!host_memory_ && ranks_here() > 1) host_memory_ = std::make_shared<HostMemory>(ranks_here());
  const std::vector<std::string> addresses =
      gather_blobs("shared memory of a host", host_memory_ ? host_memory_->address() : "", host_topology_);
  const std::string why_not = ranks_here() > 1 ? host_memory_->connect(addresses) : "there is one rank";
  const std::vector<std::string> answers = gather_blobs("shared memory of a host", why_not, host_topology_);
  const auto refusal = std::ranges::find_if(answers, [](const std::string& answer) { return !answer.empty(); });
  shares_memory_ = refusal == answers.end();
  if (!shares_memory_) host_memory_.reset();  // and the room for addresses
  shared_plans_ = 0;
  if (shares_memory_ || ranks_here() == 1 || host_topology_.rank() > 0) return;
  log::warn(format("comm.algorithm: the ranks on {} send each other messages, for they cannot share memory: {}", host(),
                   *refusal));
}

bool Communicator::has_lost_ranks() const { return progress_->has_lost_ranks(); }

std::string Communicator::regroup() {
  progress_->regroup();
  meet();
  const std::vector<int> before = std::exchange(members_, gather(first_topology_.rank()));
  std::string lost;
  for (const int rank : before) {
    if (std::ranges::binary_search(members_, rank)) continue;
    lost += format("{}{}", lost.empty() ? "" : ", ", first_topology_.describe(rank));
  }
  return lost;
}

AllReducePlan Communicator::plan_all_reduce(AllReduceSpec spec) {
  const Topology& topology = spec.group == Group::host ? host_topology_ : host_by_host_;
  spec.factor = spec.factor.value_or(1.0F / static_cast<float>(topology.size()));
  spec.wire = spec.wire.value_or(spec.group == Group::host ? Wire::fp32 : options_.wire);
  std::string_view name = spec.algorithm != nullptr ? spec.algorithm->name : options_.algorithm;
  // A few numbers alone are waited for, and sent in no time: the fewest hops, whatever is chosen for arrays.
  if (spec.algorithm == nullptr && spec.values.empty() && !may_share_memory(name, Wire::fp32) && !is_native(name)) {
    name = "halving_doubling";
  }
  if (may_share_memory(name, spec.values.empty() ? Wire::fp32 : *spec.wire)) {
    if (can_share_memory(topology)) {
      auto plan = plan_in_shared_memory(spec, topology, find_algorithm(kSharedMemory));
      if (plan) return std::move(*plan);
    } else if (spec.group == Group::host) {
      progress_->count_started();  // what the ranks of other hosts may tell each other for it
    }
  }
  const AlgorithmInfo* algorithm = &choose_algorithm(name, topology, spec.values.size(), *spec.wire, false);
  if (algorithm->shares_within_hosts && all_hosts_share_ && spec.group == Group::all) {
    if (auto plan = plan_in_shared_memory(spec, host_topology_, *algorithm)) return std::move(*plan);
  }
  Transport& transport = progress_->transport();
  if (algorithm->is_native() && spec.group == Group::host) algorithm = &algorithms().front();
  if (algorithm->is_native()) {
    const auto native = [&](std::span<float> array) {
      return transport.make_native_all_reduce(NativeCall::in_place, array, array);
    };
    if (auto values = native(spec.values)) {
      auto operation = std::make_unique<NativeAllReduce>(spec, std::move(values), native(spec.tail));
      return {*progress_,
              std::make_shared<Job>(std::move(operation)),
              {.algorithm = algorithm->name, .values = spec.values, .parts = {{0, spec.values}}}};
    }
    algorithm = &algorithms().front();
  }
  auto operation = make_scheduled(spec, topology, *algorithm);
  const std::size_t staging_bytes = operation->staging_bytes();
  return {*progress_,
          std::make_shared<Job>(std::move(operation)),
          {.algorithm = algorithm->name,
           .values = spec.values,
           .parts = {{0, spec.values}},
           .staging_bytes = staging_bytes,
           .needs_no_other_rank = topology.size() == 1}};
}

std::unique_ptr<ScheduledAllReduce> Communicator::make_scheduled(const AllReduceSpec& spec, const Topology& topology,
                                                                 const AlgorithmInfo& algorithm) {
  return std::make_unique<ScheduledAllReduce>(progress_->transport(), topology, algorithm, spec, segment_bytes_,
                                              segment_bytes(options_, false));
}

/// All ranks of a host, or those there are.
bool Communicator::can_share_memory(const Topology& topology) const {
  return shares_memory_ && topology.size() == ranks_here();
}

/// `topology`: of a host. None where an array of one of the ranks lies outside the memory they share, or there is no
/// room for the sums; where the algorithm sums over several hosts, on any of them.
std::optional<AllReducePlan> Communicator::plan_in_shared_memory(const AllReduceSpec& spec, const Topology& topology,
                                                                 const AlgorithmInfo& algorithm) {
  struct Offer {
    SharedAllReduce::Place place;
    std::size_t floats;
    std::size_t tail;
  };
  std::size_t staging_bytes = SharedAllReduce::board_bytes(spec, topology);
  const std::size_t values = spec.values.empty() ? 0 : host_memory_->offset_of(spec.values.data());
  std::shared_ptr<std::byte> board;
  if (values != HostMemory::kNowhere) board = host_memory_->allocate(staging_bytes);
  const Offer own{.place = {.values = values, .board = host_memory_->offset_of(board.get())},
                  .floats = spec.values.size(),
                  .tail = spec.tail.size()};
  const std::vector<std::uint64_t> own_retired = host_memory_->retired();
  std::string blob(sizeof(own) + own_retired.size() * sizeof(std::uint64_t), '\0');
  std::memcpy(blob.data(), &own, sizeof(own));
  std::ranges::copy(std::as_bytes(std::span(own_retired)),
                    std::as_writable_bytes(std::span(blob)).begin() + sizeof(own));

  std::vector<SharedAllReduce::Place> places;
  std::vector<std::vector<std::uint64_t>> retired;
  bool is_possible = true;
  bool has_room = true;
  for (const std::string& offered : gather_blobs("plan of a shared all-reduce", blob, topology)) {
    Offer offer{};
    std::memcpy(&offer, offered.data(), std::min(offered.size(), sizeof(offer)));
    if (offer.floats != own.floats || offer.tail != own.tail) {
      throw Error(
          ErrorKind::failure,
          format("{} plans to sum {} and {} floats where {} and {} were expected: the ranks do not run the same "
                 "program with the same configuration",
                 topology.describe(static_cast<int>(places.size())), offer.floats, offer.tail, own.floats, own.tail));
    }
    places.push_back(offer.place);
    retired.emplace_back((offered.size() - sizeof(offer)) / sizeof(std::uint64_t));
    std::memcpy(retired.back().data(), offered.data() + sizeof(offer), offered.size() - sizeof(offer));
    is_possible &= offer.place.values != HostMemory::kNowhere;
    has_room &= offer.place.board != HostMemory::kNowhere;
  }
  host_memory_->release(retired);
  if (is_possible && !has_room && topology.rank() == 0) warn_of_short_memory(spec.values.size());
  is_possible &= has_room;
  SharedAllReduce::MakeBetweenHosts make_between_hosts;
  if (algorithm.shares_within_hosts) {
    is_possible = is_true_on_all(is_possible);
    make_between_hosts = [&](const AllReduceSpec& chunk) {
      // Every hop of others would round. One choice for all places, by the longest chunk: the tail is summed in each.
      const std::size_t longest = chunk_range(spec.values.size(), topology.size(), 0).count;
      const std::string_view name = *chunk.wire == Wire::fp32 ? kAutomatic : "direct";
      auto operation =
          make_scheduled(chunk, twin_topology_, choose_algorithm(name, twin_topology_, longest, *chunk.wire, false));
      staging_bytes += operation->staging_bytes();
      return operation;
    };
  }
  if (!is_possible) return std::nullopt;
  auto operation = std::make_unique<SharedAllReduce>(progress_->transport(), topology, spec, host_memory_,
                                                     std::move(board), places, ++shared_plans_, make_between_hosts);
  std::vector<ResultPart> parts = operation->parts();
  return AllReducePlan(
      *progress_, std::make_shared<Job>(std::move(operation)),
      {.algorithm = algorithm.name, .values = spec.values, .parts = std::move(parts), .staging_bytes = staging_bytes});
}

void Communicator::warn_of_short_memory(std::size_t floats) const {
  log::warn(format("comm.algorithm: {} floats are not summed in shared memory on {}, but by messages: memory is short",
                   fmt::group_digits(floats), host()));
}

std::shared_ptr<float> Communicator::allocate(std::size_t floats) {
  const std::size_t bytes = floats * sizeof(float);
  if (shares_memory_) {
    if (std::shared_ptr<std::byte> memory = host_memory_->allocate(bytes)) {
      return {memory, reinterpret_cast<float*>(memory.get())};
    }
    warn_of_short_memory(floats);
  }
  return {static_cast<float*>(allocate_aligned(bytes)), free_aligned};
}

std::string_view Communicator::algorithm_for(std::size_t floats) const {
  return choose_algorithm(options_.algorithm, host_by_host_, floats, options_.wire, can_share_memory(host_by_host_))
      .name;
}

bool Communicator::is_true_on_all(bool here) { return std::ranges::count(gather(here ? 1 : 0), 0) == 0; }

void Communicator::barrier() { gather_blobs("barrier", ""); }

void Communicator::broadcast(std::span<std::byte> bytes) {
  run(std::make_unique<Broadcast>(progress_->transport(), topology_, bytes, segment_bytes_));
}

std::vector<std::string> Communicator::all_gather(std::string_view mine) { return gather_blobs("all-gather", mine); }

std::vector<std::string> Communicator::gather_at_rank_0(std::string_view mine) {
  std::vector<std::string> blobs;
  if (rank() == 0) {
    blobs.resize(static_cast<std::size_t>(size()));
    blobs.front() = mine;
  }
  run(std::make_unique<Gather>(progress_->transport(), topology_, mine, blobs));
  return blobs;
}

std::string Communicator::from_rank_0(std::string_view text) {
  std::string result(gather(text.size()).front(), '\0');
  if (rank() == 0) result = text;
  broadcast(std::as_writable_bytes(std::span(result)));
  return result;
}

void Communicator::abort(std::string_view reason, int exit_code) {
  const std::string full_reason = format("{}: {}", topology_.describe(rank()), reason);
  const char* const advice =
      are_on_several_hosts(places_) && std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr
          ? "; should mpirun not end, a host is gone: next time start it with --mca oob_tcp_keepalive_time 20 --mca "
            "oob_tcp_keepalive_intvl 10 --mca oob_tcp_keepalive_probes 3"
          : "";
  log::error(format("{}; ending the whole job{}", full_reason, advice));
  progress_->abort(exit_code, full_reason);
}

void Communicator::allow_for(double compute_s) { progress_->allow_for(compute_s); }

std::optional<int> Communicator::pin_progress_thread(int compute_threads) {
  const std::optional<int> core = options_.core ? options_.core : find_spare_core(places_, rank(), compute_threads);
  if (core && !progress_->pin(*core)) {
    log::warn(format("comm.core: the progress thread may not be confined to core {}; it stays free to roam", *core));
    return std::nullopt;
  }
  return core;
}

std::optional<double> Communicator::time_native_all_reduce(NativeCall call, std::span<const float> source,
                                                           std::span<float> target) {
  auto operation = progress_->transport().make_native_all_reduce(call, source, target);
  if (!operation) return std::nullopt;
  return run(std::move(operation));
}

/// Returns the milliseconds it took.
double Communicator::run(std::unique_ptr<Operation> operation) {
  const auto job = std::make_shared<Job>(std::move(operation));
  progress_->submit(job);
  return progress_->wait(*job).duration_ms;
}

std::vector<std::string> Communicator::gather_blobs(std::string_view what, std::string_view mine) {
  return gather_blobs(what, mine, topology_);
}

std::vector<std::string> Communicator::gather_blobs(std::string_view what, std::string_view mine,
                                                    const Topology& among) {
  std::vector<std::string> blobs(static_cast<std::size_t>(among.size()));
  blobs[static_cast<std::size_t>(among.rank())] = mine;
  run(std::make_unique<AllGather>(progress_->transport(), among, what, blobs));
  return blobs;
}

}  // namespace dcs3gd::comm
