#include "comm/communicator.h"

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <utility>

#include "comm/collectives.h"
#include "comm/launcher.h"
#include "comm/mpi_transport.h"
#include "comm/progress_thread.h"
#include "comm/reference_all_reduce.h"
#include "comm/ring_all_reduce.h"
#include "comm/schedule/topology.h"
#include "comm/thread_world.h"
#include "core/error.h"
#include "core/format.h"
#include "core/log.h"

namespace dcs3gd::comm {
namespace {

constexpr std::size_t kLineBytes = kLineFloats * sizeof(float);
// Defaults; README.md has the measurements. On one machine few large copies win. Between machines a segment stays below
// the 64 KiB that MPI sends over TCP without asking first; probably the answer queues behind the data that comes back.
constexpr std::size_t kSegmentBytesOnOneHost = std::size_t{1} << 20;
constexpr std::size_t kSegmentBytesBetweenHosts = std::size_t{60} << 10;
constexpr std::size_t kMaxSegmentBytes = std::size_t{1} << 30;

/// The options as they are, if they hold together.
const Options& checked(const Options& options) {
  if (find_algorithm(options.algorithm).is_native() && options.wire == Wire::bf16) {
    throw Error(ErrorKind::input, "comm.wire: " + bf16_needs_schedule());
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

/// Does all of an operation that needs no other rank.
std::shared_ptr<Job> run_here(std::unique_ptr<Operation> operation) {
  operation->start();
  while (operation->step() != Step::done) {
  }
  auto job = std::make_shared<Job>(std::move(operation));
  job->finish(0);
  return job;
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
      topology_(progress_->transport().rank(), progress_->transport().size()) {
  try {
    std::vector<std::string> hosts;
    for (const std::string& blob : gather_blobs("meeting of all ranks", pack(find_own_place()))) {
      places_.push_back(unpack_place(blob));
      hosts.push_back(places_.back().host);
    }
    topology_ = Topology(rank(), size(), std::move(hosts));
    const bool between_hosts = are_on_several_hosts(places_);
    progress_->set_between_hosts(between_hosts);
    scratch_ = std::make_unique<RingScratch>(segment_bytes(options_, between_hosts));
  } catch (const std::exception& exception) {
    abort(exception.what());
    throw;
  }
}

Communicator::~Communicator() {
  if (std::uncaught_exceptions() > exceptions_at_start_) {
    abort("an exception ended this rank");
  } else if (progress_->failed()) {
    progress_->abort(1, "communication failed");  // whoever waited has thrown the cause already
  } else {
    try {
      gather_blobs("farewell of all ranks", "");
    } catch (const std::exception& exception) {
      abort(exception.what());
    }
  }
  progress_.reset();  // first of all members: its thread uses the others
}

Ticket Communicator::start_all_reduce(const AllReduceRequest& request) {
  Transport& transport = progress_->transport();
  const float factor = request.factor.value_or(1.0F / static_cast<float>(size()));
  std::unique_ptr<Operation> operation;
  if (find_algorithm(options_.algorithm).is_native()) {
    operation = std::make_unique<ReferenceAllReduce>(transport, request.values, request.extras, factor, next_tag());
  } else {
    const RingAllReduceWork work{request.values, request.extras, factor, request.wire.value_or(options_.wire)};
    operation = std::make_unique<RingAllReduce>(transport, topology_, *scratch_, work, next_tag());
    // Alone there is nothing to wait for, and waking a thread takes longer than scaling a small array.
    if (size() == 1 && !progress_->failed()) return {*progress_, run_here(std::move(operation))};
  }
  return {*progress_, progress_->submit(std::move(operation))};
}

void Communicator::barrier() { gather_blobs("barrier", ""); }

void Communicator::broadcast(std::span<std::byte> bytes) {
  run(std::make_unique<Broadcast>(progress_->transport(), topology_, bytes, scratch_->segment_bytes(), next_tag()));
}

std::vector<std::string> Communicator::all_gather(std::string_view mine) { return gather_blobs("all-gather", mine); }

std::string Communicator::from_rank_0(std::string_view text) {
  std::string result(gather(text.size()).front(), '\0');
  if (rank() == 0) result = text;
  broadcast(std::as_writable_bytes(std::span(result)));
  return result;
}

void Communicator::abort(std::string_view reason, int exit_code) {
  const std::string full_reason = format("{}: {}", topology_.describe(rank()), reason);
  log::error(format("{}; ending the whole job", full_reason));
  progress_->abort(exit_code, full_reason);
}

std::optional<int> Communicator::pin_progress_thread(int compute_threads) {
  const std::optional<int> core = options_.core ? options_.core : find_spare_core(places_, rank(), compute_threads);
  if (core && !progress_->pin(*core)) {
    log::warn(format("comm.core: the progress thread may not be confined to core {}; it stays free to roam", *core));
    return std::nullopt;
  }
  return core;
}

std::string Communicator::current_operation() const { return progress_->current_operation(); }

double Communicator::time_library_all_reduce(LibraryCall call, std::span<const float> source, std::span<float> target) {
  return progress_->wait(
      *progress_->submit(progress_->transport().make_library_all_reduce(call, source, target, next_tag())));
}

int Communicator::next_tag() { return std::exchange(next_tag_, (next_tag_ + 1) % kTagCount); }

void Communicator::run(std::unique_ptr<Operation> operation) {
  progress_->wait(*progress_->submit(std::move(operation)));
}

std::vector<std::string> Communicator::gather_blobs(std::string_view what, std::string_view mine) {
  std::vector<std::string> blobs(static_cast<std::size_t>(size()));
  blobs[static_cast<std::size_t>(rank())] = mine;
  run(std::make_unique<AllGather>(progress_->transport(), topology_, what, blobs, next_tag()));
  return blobs;
}

}  // namespace dcs3gd::comm
