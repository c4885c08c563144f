#include "comm/thread_world.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/format.h"

namespace dcs3gd::comm {

/// Messages are copied into the receiver's mailbox at once and copied out when the receiver asks: a sender that goes
/// away leaves nothing dangling.
class ThreadWorld {
 public:
  explicit ThreadWorld(int rank_count) : mailboxes_(static_cast<std::size_t>(rank_count)) {}

  int size() const { return static_cast<int>(mailboxes_.size()); }

  void put(int from, int to, int tag, std::span<const std::byte> bytes) {
    Message message{from, tag, {bytes.begin(), bytes.end()}};
    Mailbox& mailbox = mailbox_of(to);
    const std::lock_guard lock(mailbox.mutex);
    mailbox.messages.push_back(std::move(message));
  }

  /// The oldest message of this sender and tag, if there is one. Throws Error when the world was aborted.
  std::optional<std::vector<std::byte>> take(int at, int from, int tag) {
    throw_if_aborted();
    Mailbox& mailbox = mailbox_of(at);
    const std::lock_guard lock(mailbox.mutex);
    const auto found = std::find_if(mailbox.messages.begin(), mailbox.messages.end(),
                                    [&](const Message& message) { return message.from == from && message.tag == tag; });
    if (found == mailbox.messages.end()) return std::nullopt;
    std::vector<std::byte> bytes = std::move(found->bytes);
    mailbox.messages.erase(found);
    return bytes;
  }

  /// The first reason stays.
  void abort(const std::string& reason) {
    const std::lock_guard lock(abort_mutex_);
    if (aborted_) return;
    abort_reason_ = reason;
    aborted_ = true;
  }

 private:
  struct Message {
    int from;
    int tag;
    std::vector<std::byte> bytes;
  };
  struct Mailbox {
    std::mutex mutex;
    std::deque<Message> messages;  ///< guarded by mutex
  };

  Mailbox& mailbox_of(int rank) { return mailboxes_[static_cast<std::size_t>(rank)]; }

  void throw_if_aborted() {
    if (!aborted_) return;
    const std::lock_guard lock(abort_mutex_);
    throw Error(ErrorKind::failure, format("the job was ended: {}", abort_reason_));
  }

  std::vector<Mailbox> mailboxes_;
  std::mutex abort_mutex_;
  std::string abort_reason_;  ///< guarded by abort_mutex_
  std::atomic<bool> aborted_ = false;
};

namespace {

class ThreadTransport final : public Transport {
 public:
  ThreadTransport(std::shared_ptr<ThreadWorld> world, int rank) : world_(std::move(world)), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return world_->size(); }

  Request start_send(int to, int tag, std::span<const std::byte> bytes) override {
    world_->put(rank_, to, tag, bytes);
    return kSent;
  }

  Request start_receive(int from, int tag, std::span<std::byte> bytes) override {
    receives_.push_back({next_request_, from, tag, bytes});
    return next_request_++;
  }

  bool test(Request request) override {
    if (request == kSent) return true;
    const auto receive = std::find_if(receives_.begin(), receives_.end(),
                                      [&](const Receive& candidate) { return candidate.request == request; });
    const std::optional<std::vector<std::byte>> message = world_->take(rank_, receive->from, receive->tag);
    if (!message) return false;
    if (message->size() != receive->bytes.size()) {
      throw Error(ErrorKind::failure, format("rank {} sent {} bytes where {} were expected: the ranks do not run the "
                                             "same program with the same configuration",
                                             receive->from, message->size(), receive->bytes.size()));
    }
    std::copy(message->begin(), message->end(), receive->bytes.begin());
    receives_.erase(receive);
    return true;
  }

  void abort(int, const std::string& reason) override { world_->abort(reason); }

 private:
  static constexpr Request kSent = 0;
  struct Receive {
    Request request;
    int from;
    int tag;
    std::span<std::byte> bytes;
  };

  std::shared_ptr<ThreadWorld> world_;
  int rank_;
  std::vector<Receive> receives_;  ///< in the order they were posted
  Request next_request_ = kSent + 1;
};

}  // namespace

std::shared_ptr<ThreadWorld> make_thread_world(int rank_count) { return std::make_shared<ThreadWorld>(rank_count); }

std::unique_ptr<Transport> open_thread_transport(std::shared_ptr<ThreadWorld> world, int rank) {
  return std::make_unique<ThreadTransport>(std::move(world), rank);
}

void run_ranks_as_threads(int rank_count, const Options& options, const std::function<void(Communicator&)>& body) {
  const std::shared_ptr<ThreadWorld> world = make_thread_world(rank_count);
  std::mutex mutex;
  std::exception_ptr first;
  const auto note_failure = [&](int rank) {
    {
      const std::lock_guard lock(mutex);
      if (!first) first = std::current_exception();
    }
    world->abort(format("rank {} failed", rank));
  };
  const auto run_rank = [&](int rank) {
    try {
      Communicator communicator([&] { return open_thread_transport(world, rank); }, options);
      try {
        body(communicator);
      } catch (...) {
        note_failure(rank);  // before the communicator goes, so that the cause comes first
      }
    } catch (...) {
      note_failure(rank);
    }
  };
  {
    std::vector<std::jthread> threads;
    threads.reserve(static_cast<std::size_t>(rank_count));
    for (int rank = 0; rank < rank_count; ++rank) threads.emplace_back(run_rank, rank);
  }
  if (first) std::rethrow_exception(first);
}

}  // namespace dcs3gd::comm
