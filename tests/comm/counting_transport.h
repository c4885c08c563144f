#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "comm/transport.h"

namespace dcs3gd::comm {

/// What a rank has sent.
struct Traffic {
  std::atomic<std::uint64_t> messages = 0;
  std::atomic<std::uint64_t> empty_messages = 0;
  std::atomic<std::uint64_t> bytes = 0;
};

/// Counts the messages of a rank on their way to another transport. `traffic` has one entry per rank.
class CountingTransport final : public Transport {
 public:
  CountingTransport(std::unique_ptr<Transport> inner, std::vector<Traffic>& traffic)
      : inner_(std::move(inner)), traffic_(traffic[static_cast<std::size_t>(inner_->rank())]) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  Request start_send(int to, int tag, std::span<const std::byte> bytes) override {
    ++traffic_.messages;
    traffic_.empty_messages += bytes.empty() ? 1 : 0;
    traffic_.bytes += bytes.size();
    return inner_->start_send(to, tag, bytes);
  }
  Request start_receive(int from, int tag, std::span<std::byte> bytes) override {
    return inner_->start_receive(from, tag, bytes);
  }
  bool test(Request request) override { return inner_->test(request); }
  void throw_if_broken() override { inner_->throw_if_broken(); }
  void abort(int exit_code, const std::string& reason) override { inner_->abort(exit_code, reason); }

 private:
  const std::unique_ptr<Transport> inner_;
  Traffic& traffic_;
};

}  // namespace dcs3gd::comm
