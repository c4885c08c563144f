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
#include <tuple>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/format.h"

namespace dcs3gd::comm {

/// Messages are copied into the receiver's mailbox at once and copied out when the receiver asks: a sender that goes
/// away leaves nothing dangling.
class ThreadWorld {
 public:
  explicit ThreadWorld(int rank_count)
      : mailboxes_(static_cast<std::size_t>(rank_count)), is_lost_(static_cast<std::size_t>(rank_count)) {}

  int size() const { return static_cast<int>(mailboxes_.size()); }

  void put(int from, int to, int tag, std::span<const std::byte> bytes) {
    Message message{from, tag, {bytes.begin(), bytes.end()}};
    Mailbox& mailbox = mailbox_of(to);
    const std::lock_guard lock(mailbox.mutex);
    mailbox.messages.push_back(std::move(message));
  }

  /// The oldest message of this sender and tag, if there is one. Throws Error when the world was aborted or has lost a
  /// rank.
  std::optional<std::vector<std::byte>> take(int at, int from, int tag) {
    throw_if_ended();
    Mailbox& mailbox = mailbox_of(at);
    const std::lock_guard lock(mailbox.mutex);
    const auto found = std::find_if(mailbox.messages.begin(), mailbox.messages.end(),
                                    [&](const Message& message) { return message.from == from && message.tag == tag; });
    if (found == mailbox.messages.end()) return std::nullopt;
    std::vector<std::byte> bytes = std::move(found->bytes);
    mailbox.messages.erase(found);
    return bytes;
  }

  void throw_if_ended() {
    if (!has_ended_) return;
    const std::lock_guard lock(end_mutex_);
    throw Error(ErrorKind::failure, end_reason_);
  }

  /// The first reason stays.
  void abort(const std::string& reason) {
    const std::lock_guard lock(end_mutex_);
    if (rest_) rest_->abort(reason);
    if (is_aborted_) return;
    end_reason_ = format("the job was ended: {}", reason);
    is_aborted_ = has_ended_ = true;
  }

  /// Nothing travels any more between the others either, until they form a world of their own.
  void lose(int rank) {
    const std::lock_guard lock(end_mutex_);
    is_lost_[static_cast<std::size_t>(rank)] = true;
    if (rest_) rest_->lose(ranks_in_rest_[static_cast<std::size_t>(rank)]);
    if (end_reason_.empty()) end_reason_ = format("rank {} is gone", rank);
    has_ended_ = true;
  }

  bool has_lost(int rank) {
    const std::lock_guard lock(end_mutex_);
    return is_lost_[static_cast<std::size_t>(rank)];
  }

  bool has_lost_ranks() {
    const std::lock_guard lock(end_mutex_);
    return !is_aborted_ && std::ranges::find(is_lost_, true) != is_lost_.end();
  }

  /// The world of the ranks that are not lost when the first of them asks, and the place there of one of them.
  std::pair<std::shared_ptr<ThreadWorld>, int> rest(int rank) {
    const std::lock_guard lock(end_mutex_);
    if (!rest_) {
      int left = 0;
      for (const bool is_lost : is_lost_) ranks_in_rest_.push_back(is_lost ? -1 : left++);
      rest_ = std::make_shared<ThreadWorld>(left);
    }
    return {rest_, ranks_in_rest_[static_cast<std::size_t>(rank)]};
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

  std::vector<Mailbox> mailboxes_;
  std::atomic<bool> has_ended_ = false;
  std::mutex end_mutex_;
  // Guarded by end_mutex_.
  std::string end_reason_;
  bool is_aborted_ = false;
  std::vector<bool> is_lost_;  ///< by rank
  std::shared_ptr<ThreadWorld> rest_;
  std::vector<int> ranks_in_rest_;
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

  void throw_if_broken() override { world_->throw_if_ended(); }
  bool has_lost_ranks() override { return world_->has_lost_ranks(); }

  void regroup() override {
    std::tie(world_, rank_) = world_->rest(rank_);
    receives_.clear();
  }

  void abort(int, const std::string& reason) override {
    if (!world_->has_lost(rank_)) world_->abort(reason);  // who is dead ends nobody
  }

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

void run_ranks_as_threads(int rank_count, const Options& options, const std::function<void(Communicator&)>& body,
                          const WrapTransport& wrap) {
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
      Communicator communicator([&] { return wrap(open_thread_transport(world, rank)); }, options);
      try {
        body(communicator);
      } catch (const RankDies&) {
        world->lose(rank);
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
