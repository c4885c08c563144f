#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "comm/options.h"
#include "comm/schedule/schedule.h"

namespace dcs3gd::comm {

/// What a transfer says of one of its segments.
struct SimulatedMessage {
  std::size_t peer = 0;
  std::size_t place = 0;  ///< among the messages of this direction between the two
  std::size_t cell = 0;
  std::size_t needed = 0;  ///< messages of the other direction that must be finished before
  bool is_exact = false;
  Receive::Action action = Receive::Action::add;
};

/// Carries out the schedules of all ranks in one loop, as a strict network would: a message is copied when both sides
/// have come to it, and only then is its memory free again.
class Simulation {
 public:
  struct Tuning {
    std::size_t segments = 1;  ///< per chunk
    std::size_t window = 1;    ///< messages in flight in each direction
    Wire wire = Wire::fp32;
  };

  /// `ranks` as any of them sees them.
  Simulation(MakeSchedule make, const Topology& ranks, const Tuning& tuning);

  /// Returns what is wrong, empty if nothing is.
  std::string run();

  /// After run(): how far the worst sum is from the exact one, as a share of the summands' magnitudes.
  double worst_error() const;

 private:
  /// One segment of a chunk.
  struct Cell {
    float sum = 0;
    std::vector<unsigned char> summands;  ///< by rank: how often
    int finished = 0;
    int changes = 0;
  };
  struct Rank {
    std::vector<SimulatedMessage> sends = {};
    std::vector<SimulatedMessage> receives = {};
    std::vector<Cell> memory = {};
    std::vector<int> sent = {};  ///< changes of their cells at the start
    std::size_t taken = 0;       ///< sends finished
    std::deque<std::optional<Cell>> coming = {};
    std::size_t received = 0;
  };

  bool may_start(const std::vector<SimulatedMessage>& messages, std::size_t started, std::size_t finished,
                 std::size_t others_finished) const;
  float on_the_wire(float value, const SimulatedMessage& message) const;

  bool step(std::size_t index);
  /// Copies the message of a receive if its sender has come to it. In order: sends are finished by their order too.
  bool take(std::size_t index, std::size_t number);
  void finish(std::size_t index);
  void check_end(std::size_t index);

  const Tuning tuning_;
  std::vector<Rank> ranks_;
  std::string finding_;
};

}  // namespace dcs3gd::comm
