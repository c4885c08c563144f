#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "comm/schedule/schedule.h"

namespace dcs3gd::comm {

/// Carries out the schedules of all ranks in one loop, as a strict network would: a message is copied when both sides
/// have come to it, and only then is its memory free again.
class Simulation {
 public:
  struct Tuning {
    std::size_t segments = 1;  ///< per chunk
    std::size_t window = 1;    ///< messages in flight in each direction
  };

  Simulation(MakeSchedule make, const std::vector<std::string>& hosts, const Tuning& tuning);

  /// Returns what is wrong, empty if nothing is.
  std::string run();

 private:
  /// One segment of a chunk.
  struct Cell {
    float sum = 0;
    std::vector<int> summands;  ///< by rank: how often
    int finished = 0;
    int changes = 0;
  };
  struct Rank {
    Schedule schedule;
    std::vector<Cell> memory = {};
    // Messages in the order of the lists, each once a segment.
    std::vector<int> sent = {};  ///< changes of their cells at the start
    std::size_t taken = 0;       ///< sends finished
    std::deque<std::optional<Cell>> coming = {};
    std::size_t received = 0;
  };

  bool may_start(std::size_t started, std::size_t finished, std::size_t all) const;
  /// Whether the segment of message `number` is among those finished of the first `needed` transfers.
  bool is_free(std::size_t number, std::size_t needed, std::size_t finished) const;
  Cell& cell(Rank& rank, int chunk, std::size_t number) const;

  bool step(std::size_t index);

  /// How many messages up to `number` go to, or come from, the peer.
  template <typename Transfers, typename Peer>
  std::size_t count(const Transfers& transfers, std::size_t number, Peer peer_of, int peer) const;

  /// Copies the message of a receive if its sender has come to it. In order: sends are finished by their order too.
  bool take(std::size_t index, std::size_t number);

  void finish(std::size_t index);

  void check_end(std::size_t index);

  const Tuning tuning_;
  std::vector<Rank> ranks_;
  std::string finding_;
};

}  // namespace dcs3gd::comm
