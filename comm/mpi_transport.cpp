#include "comm/mpi_transport.h"

// MPI's C++ bindings are gone from the standard, and their headers do not compile cleanly.
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <algorithm>
#include <array>
#include <chrono>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include <mpi.h>
#if __has_include(<mpi-ext.h>)
#include <mpi-ext.h>
#endif

#include "comm/socket_queues.h"
#include "core/error.h"
#include "core/format.h"
#include "core/stopwatch.h"

namespace dcs3gd::comm {
namespace {

/// Counts are int in MPI: longer arrays go in several calls.
constexpr std::size_t kMaxFloatsPerCall = std::size_t{1} << 30;

void check(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  throw Error(ErrorKind::failure, format("{}: {}", call, text.data()));
}

int byte_count(std::size_t bytes) {
  if (bytes > static_cast<std::size_t>(std::numeric_limits<int>::max())) {
    throw Error(ErrorKind::failure, format("a message of {} bytes: MPI takes at most 2^31 - 1 in one", bytes));
  }
  return static_cast<int>(bytes);
}

// What MPI offers who would live longer than a rank of the job: "user-level failure mitigation", ULFM, in Open MPI
// from 5.0 under mpirun --with-ft ulfm, and in MPICH. Elsewhere nobody outlives a rank, and these are never called.
#ifdef MPIX_ERR_PROC_FAILED
bool tells_of_lost_ranks(int code) {
  int kind = MPI_SUCCESS;
  MPI_Error_class(code, &kind);
  return kind == MPIX_ERR_PROC_FAILED || kind == MPIX_ERR_PROC_FAILED_PENDING || kind == MPIX_ERR_REVOKED;
}
int revoke(MPI_Comm world) { return MPIX_Comm_revoke(world); }
int shrink(MPI_Comm world, MPI_Comm* rest) { return MPIX_Comm_shrink(world, rest); }
#else
bool tells_of_lost_ranks(int) { return false; }
int revoke(MPI_Comm) { return MPI_ERR_UNSUPPORTED_OPERATION; }
int shrink(MPI_Comm, MPI_Comm*) { return MPI_ERR_UNSUPPORTED_OPERATION; }
#endif

/// Keeps in mind whether a call has told of lost ranks.
void check_transfer(bool& is_loss, int code, const char* call) {
  is_loss = is_loss || tells_of_lost_ranks(code);
  check(code, call);
}

/// MPI's all-reduce as an operation. The blocking calls block in step().
class MpiAllReduce final : public Operation {
 public:
  MpiAllReduce(MPI_Comm world, bool& is_loss, NativeCall call, std::span<const float> source, std::span<float> target)
      : world_(world), is_loss_(is_loss), call_(call), source_(source), target_(target) {}

  void start(int) override { first_ = 0; }  // the tags of collectives are MPI's own

  Step step() override {
    if (call_ == NativeCall::nonblocking && request_ != MPI_REQUEST_NULL) {
      int complete = 0;
      check_transfer(is_loss_, MPI_Test(&request_, &complete, MPI_STATUS_IGNORE), "MPI_Test");
      if (complete == 0) return Step::waiting;
    }
    if (first_ == target_.size()) return Step::done;
    const std::size_t count = std::min(kMaxFloatsPerCall, target_.size() - first_);
    call(first_, static_cast<int>(count));
    first_ += count;
    return Step::moved;
  }

  bool runs_alone() const override { return true; }

  std::string name() const override {
    return format("{} of {} floats", call_ == NativeCall::nonblocking ? "MPI_Iallreduce" : "MPI_Allreduce",
                  fmt::group_digits(target_.size()));
  }
  std::string waits_for() const override { return "MPI does not say who is missing"; }

 private:
  void call(std::size_t first, int count) {
    const float* source = source_.data() + first;
    float* target = target_.data() + first;
    switch (call_) {
      case NativeCall::two_buffers:
        check_transfer(is_loss_, MPI_Allreduce(source, target, count, MPI_FLOAT, MPI_SUM, world_), "MPI_Allreduce");
        break;
      case NativeCall::in_place:
        check_transfer(is_loss_, MPI_Allreduce(MPI_IN_PLACE, target, count, MPI_FLOAT, MPI_SUM, world_),
                       "MPI_Allreduce");
        break;
      case NativeCall::nonblocking:
        check_transfer(is_loss_, MPI_Iallreduce(source, target, count, MPI_FLOAT, MPI_SUM, world_, &request_),
                       "MPI_Iallreduce");
        break;
    }
  }

  const MPI_Comm world_;
  bool& is_loss_;  ///< the transport's
  const NativeCall call_;
  const std::span<const float> source_;
  const std::span<float> target_;
  std::size_t first_ = 0;
  MPI_Request request_ = MPI_REQUEST_NULL;
};

class MpiTransport final : public Transport {
 public:
  MpiTransport() {
    MPI_Comm own = MPI_COMM_NULL;
    check(MPI_Comm_dup(MPI_COMM_WORLD, &own), "MPI_Comm_dup");
    use(own);
  }
  ~MpiTransport() override {
    end_watch();
    MPI_Comm_free(&world_);
    MPI_Finalize();
  }
  MpiTransport(const MpiTransport&) = delete;
  MpiTransport& operator=(const MpiTransport&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  Request start_send(int to, int tag, std::span<const std::byte> bytes) override {
    if (since_bound_.elapsed_s() > kBoundAgain_s) {
      bound_socket_queues();
      since_bound_.restart_s();
    }
    const Request slot = free_slot();
    slots_[slot].expected_bytes = kNoReceive;
    check_transfer(is_loss_,
                   MPI_Isend(bytes.data(), byte_count(bytes.size()), MPI_BYTE, to, tag, world_, &slots_[slot].request),
                   "MPI_Isend");
    return slot;
  }

  Request start_receive(int from, int tag, std::span<std::byte> bytes) override {
    const Request slot = free_slot();
    slots_[slot].expected_bytes = byte_count(bytes.size());
    check_transfer(
        is_loss_, MPI_Irecv(bytes.data(), byte_count(bytes.size()), MPI_BYTE, from, tag, world_, &slots_[slot].request),
        "MPI_Irecv");
    return slot;
  }

  bool test(Request request) override {
    Slot& slot = slots_[request];
    MPI_Status status;
    int complete = 0;
    check_transfer(is_loss_, MPI_Test(&slot.request, &complete, &status), "MPI_Test");
    if (complete == 0) return false;
    if (slot.expected_bytes != kNoReceive) {
      int bytes = 0;
      check(MPI_Get_count(&status, MPI_BYTE, &bytes), "MPI_Get_count");
      if (bytes != slot.expected_bytes) {
        throw Error(ErrorKind::failure, format("rank {} sent {} bytes where {} were expected: the ranks do not run the "
                                               "same program with the same configuration",
                                               status.MPI_SOURCE, bytes, slot.expected_bytes));
      }
    }
    free_.push_back(request);
    return true;
  }

  std::unique_ptr<Operation> make_native_all_reduce(NativeCall call, std::span<const float> source,
                                                    std::span<float> target) override {
    return std::make_unique<MpiAllReduce>(world_, is_loss_, call, source, target);
  }

  /// Any rank's loss ends a receive from anyone, here of what nobody sends. (Open MPI 5.0.7's MPI_Iprobe tells
  /// nothing.)
  void throw_if_broken() override {
    if (watch_ == MPI_REQUEST_NULL) {
      check_transfer(is_loss_, MPI_Irecv(nullptr, 0, MPI_BYTE, MPI_ANY_SOURCE, kWatchTag, world_, &watch_),
                     "MPI_Irecv");
    }
    int is_there = 0;
    check_transfer(is_loss_, MPI_Test(&watch_, &is_there, MPI_STATUS_IGNORE), "MPI_Test");
  }

  bool has_lost_ranks() override {
    if (!is_loss_) return false;
    if (revoke(world_) != MPI_SUCCESS) return false;
    const auto begin = std::chrono::steady_clock::now();
    for (Slot& slot : slots_) {
      for (int complete = 0; slot.request != MPI_REQUEST_NULL && complete == 0;) {
        MPI_Test(&slot.request, &complete, MPI_STATUS_IGNORE);  // with an error, which is known
        if (std::chrono::steady_clock::now() - begin > kDrainPatience) return false;
        if (complete == 0) std::this_thread::sleep_for(kDrainPause);
      }
    }
    return true;
  }

  void regroup() override {
    MPI_Comm rest = MPI_COMM_NULL;
    check(shrink(world_, &rest), "MPIX_Comm_shrink");
    end_watch();
    MPI_Comm_free(&world_);
    slots_.clear();
    free_.clear();
    is_loss_ = false;
    use(rest);
  }

  void abort(int exit_code, const std::string&) override { MPI_Abort(MPI_COMM_WORLD, exit_code); }

 private:
  static constexpr std::chrono::seconds kDrainPatience{2};
  static constexpr std::chrono::milliseconds kDrainPause{1};
  static constexpr int kNoReceive = -1;
  static constexpr int kWatchTag = 32767;     ///< the largest that every MPI has
  static constexpr double kBoundAgain_s = 1;  // tens of microseconds each time, with hundreds of sockets a millisecond
  struct Slot {
    MPI_Request request = MPI_REQUEST_NULL;
    int expected_bytes = kNoReceive;
  };

  /// A communicator of our own, whose errors come back as return codes.
  void use(MPI_Comm world) {
    world_ = world;
    check(MPI_Comm_set_errhandler(world_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    check(MPI_Comm_rank(world_, &rank_), "MPI_Comm_rank");
    check(MPI_Comm_size(world_, &size_), "MPI_Comm_size");
  }

  void end_watch() {
    if (watch_ == MPI_REQUEST_NULL) return;
    MPI_Cancel(&watch_);
    MPI_Request_free(&watch_);
  }

  Request free_slot() {
    if (free_.empty()) {
      slots_.emplace_back();
      return slots_.size() - 1;
    }
    const Request slot = free_.back();
    free_.pop_back();
    return slot;
  }

  MPI_Comm world_ = MPI_COMM_NULL;
  int rank_ = 0;
  int size_ = 0;
  std::vector<Slot> slots_;
  std::vector<Request> free_;
  MPI_Request watch_ = MPI_REQUEST_NULL;  ///< for the loss of any rank
  Stopwatch since_bound_;                 ///< the queues of sockets
  bool is_loss_ = false;                  ///< a call has told of lost ranks
};

}  // namespace

std::unique_ptr<Transport> open_mpi_transport(const Launch& launch) {
  int provided = MPI_THREAD_SINGLE;
  check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
  if (provided < MPI_THREAD_FUNNELED) {
    MPI_Finalize();
    throw Error(ErrorKind::failure, "this MPI was built without support for threads (MPI_THREAD_FUNNELED)");
  }
  auto transport = std::make_unique<MpiTransport>();
  if (launch.ranks && *launch.ranks != transport->size()) {
    throw Error(
        ErrorKind::input,
        format("the launcher started {} processes ({}), but MPI sees a world of {}: this program was built with "
               "another MPI than the launcher belongs to; start it with the mpirun of its own MPI",
               *launch.ranks, launch.variable, transport->size()));
  }
  return transport;
}

}  // namespace dcs3gd::comm
