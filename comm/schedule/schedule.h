#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "comm/schedule/topology.h"

namespace dcs3gd::comm {

// An all-reduce is data: a *schedule* says which chunk one rank sends to whom and what it does with each chunk that
// comes. A schedule is a pure function of the topology, so that it can be drawn, tested and compared without a message
// sent; scheduled_all_reduce.h carries it out.
//
// Words. The array is cut into as many *chunks* as there are ranks (chunks.h). What travels at a time is a *run*: one
// chunk, or several that follow one another. A run travels in *segments*, which only the executor knows: where what is
// waited for is the same run, each segment waits for its own only. A run without elements is not sent.
//
// Rules. A rank starts its sends in their order and its receives in theirs; both lists run side by side, and both are
// finished in order too. Between two ranks the sends of one and the receives of the other name the same runs in the
// same order. Each rank's summand is added once, and one rank, the chunk's owner, finishes the sum.

/// Chunks that travel together.
struct Run {
  int chunk = 0;
  int chunks = 1;
  bool exact = false;  ///< in fp32 on any wire: within a host, where a narrow one takes time and spares none

  bool operator==(const Run&) const = default;
};

/// A run leaves this rank.
struct Send {
  int to = 0;
  Run run;
  std::size_t after_receives = 0;  ///< waits until this many of the rank's receives are finished
  bool is_finished = false;        ///< what leaves is a finished sum, and not a summand

  bool operator==(const Send&) const = default;
};

/// A run comes to this rank.
struct Receive {
  enum class Action {
    add,             ///< sum += what came
    add_and_finish,  ///< the owner's last summand: then it multiplies by the factor and rounds to the wire type
    store,           ///< a finished sum replaces what is here
  };

  int from = 0;
  Run run;
  Action action = Action::add;
  std::size_t after_sends = 0;  ///< waits until this many of the rank's sends are finished: they read the same memory

  bool operator==(const Receive&) const = default;
};

/// One rank's part in an all-reduce. Of one rank alone it is empty.
struct Schedule {
  std::vector<Send> sends;
  std::vector<Receive> receives;
};

using MakeSchedule = Schedule (*)(const Topology&);

/// Writes a schedule down in the order in which its rank would carry it out, one thing after the other, and finds what
/// has to wait for what: a send for the latest receive of its chunks, a receive for their latest send.
class ScheduleWriter {
 public:
  explicit ScheduleWriter(const Topology& topology)
      : receives_of_(static_cast<std::size_t>(topology.size())),
        sends_of_(receives_of_.size()),
        is_finished_(receives_of_.size()) {}

  void send(int to, const Run& run);
  void send(int to, int chunk) { send(to, Run{.chunk = chunk}); }
  void receive(int from, const Run& run, Receive::Action action);
  void receive(int from, int chunk, Receive::Action action) { receive(from, Run{.chunk = chunk}, action); }
  Schedule take() { return std::move(schedule_); }

 private:
  Schedule schedule_;
  // By chunk: how many receives, or sends, there are up to its latest one.
  std::vector<std::size_t> receives_of_;
  std::vector<std::size_t> sends_of_;
  std::vector<bool> is_finished_;  ///< by chunk: its sum is finished here
};

/// The ranks that may be to blame when receive number `receive` of this rank does not come: its sender, those that the
/// sender waits for, and so on, the nearest first. This rank is not among them.
std::vector<int> blamed_ranks(MakeSchedule make, const Topology& topology, std::size_t receive);

}  // namespace dcs3gd::comm
