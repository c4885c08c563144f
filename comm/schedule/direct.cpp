#include "comm/schedule/schedule.h"

namespace dcs3gd::comm {

// The direct exchange: everyone talks to everyone. Rank r owns chunk r.
//
//            chunk 0    1    2    3        step 1: every rank sends each owner its summand, its right neighbour first:
//     rank 0 [ a0 | a1 | a2 | a3 ]                 a1 to rank 1, a2 to rank 2, a3 to rank 3; the owner adds them in the
//     rank 1 [ b0 | b1 | b2 | b3 ]                 order of the ranks to its left: ((a0 + d0) + c0) + b0 at rank 0
//     rank 2 [ c0 | c1 | c2 | c3 ]         step 2: every owner sends its finished chunk to all others, which store it
//     rank 3 [ d0 | d1 | d2 | d3 ]
//
// Cost per rank: 2 steps, 2(N−1)/N · P elements sent and as many received in 2(N−1) messages, (N−1)/N · P additions:
// the bytes and messages of the ring, which do not wait for one another. On the bf16 wire every summand is rounded
// once, and the sum once more.
Schedule direct(const Topology& topology) {
  using Action = Receive::Action;
  const int rank = topology.rank();
  const int others = topology.size() - 1;
  ScheduleWriter writer(topology);
  for (int distance = 1; distance <= others; ++distance) {
    writer.send(topology.rank_right(distance), topology.rank_right(distance));
    writer.receive(topology.rank_left(distance), rank, distance < others ? Action::add : Action::add_and_finish);
  }
  for (int distance = 1; distance <= others; ++distance) {
    writer.send(topology.rank_right(distance), rank);
    writer.receive(topology.rank_left(distance), topology.rank_left(distance), Action::store);
  }
  return writer.take();
}

}  // namespace dcs3gd::comm
