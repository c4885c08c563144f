#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "comm/operation.h"

namespace dcs3gd::comm {

/// Variants of the native all-reduce, MPI_Allreduce, for reference and benchmarks.
enum class NativeCall { two_buffers, in_place, nonblocking };

/// The seam to the outside: point-to-point messages between the ranks of a world, all non-blocking. Two
/// implementations: MPI (mpi_transport.h) and threads of one process (thread_world.h; alone it is the solo world).
///
/// Messages with one sender, receiver and tag arrive in the order they were sent. Memory belongs to the transport from
/// start_… until test() has said true. Only the progress thread calls it, but for rank() and size().
class Transport {
 public:
  /// A transfer in flight.
  using Request = std::size_t;

  virtual ~Transport() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  virtual Request start_send(int to, int tag, std::span<const std::byte> bytes) = 0;
  /// The message that comes must have exactly this length, else test() throws.
  virtual Request start_receive(int from, int tag, std::span<std::byte> bytes) = 0;
  /// Whether the transfer is complete; if so, the request is gone.
  virtual bool test(Request request) = 0;

  /// target = Σ source over the ranks, by the world's own means; null if it has none. With NativeCall::in_place source
  /// and target are the same memory, else they do not overlap.
  virtual std::unique_ptr<Operation> make_native_all_reduce(NativeCall, std::span<const float> /*source*/,
                                                            std::span<float> /*target*/) {
    return nullptr;
  }

  /// For who waits without a transfer in flight: throws Error where a transfer would, when the world is broken.
  virtual void throw_if_broken() = 0;

  /// After start_…, test or throw_if_broken has thrown: whether ranks are gone and the others can go on without them.
  /// If so, nothing of the callers' is in flight any more, and the others' transfers fail as well.
  virtual bool has_lost_ranks() { return false; }
  /// Then: makes a world of the ranks that are left, in their old order, and returns when all of them are there.
  /// Another rank() and size(), no messages.
  virtual void regroup() {}

  /// Ends the whole world: MPI ends all processes (and does not return); between threads all ranks' transfers fail from
  /// now on with `reason`.
  virtual void abort(int exit_code, const std::string& reason) = 0;
};

/// Tags count operations, so that the messages of one are never taken for those of another, in flight beside it or
/// before it. Before a tag comes again, as many operations have been started. MPI guarantees tags up to 32767; that one
/// is the transport's own.
constexpr int kTagCount = 32767;

}  // namespace dcs3gd::comm
