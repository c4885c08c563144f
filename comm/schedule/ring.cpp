#include "comm/schedule/schedule.h"

namespace dcs3gd::comm {

// The ring: everyone sends to the right (rank + 1) only and receives from the left only, all at the same time.
//
//               chunk 0    1    2    3
//    ┌──▶ rank 0 [ a0 | a1 | a2 | a3 ] ──┐      In step i = 0 … 2N−3 rank r
//    │    rank 1 [ b0 | b1 | b2 | b3 ] ◀─┘ ──┐      sends    chunk (r − 1 − i) mod N to rank r + 1,
//    │    rank 2 [ c0 | c1 | c2 | c3 ] ◀─────┘      receives chunk (r − 2 − i) mod N from rank r − 1,
//    │    rank 3 [ d0 | d1 | d2 | d3 ] ◀─ …     and sends in step i + 1 what it received in step i.
//    └─────────┘
//
// Reduce-scatter, steps 0 … N−2: a chunk gathers one more summand at each rank it visits. Chunk 0 leaves rank 1 as b0,
// is c0 + b0 at rank 2, d0 + (c0 + b0) at rank 3, and is complete at rank 0, its owner: rank r owns chunk r.
// All-gather, steps N−1 … 2N−3: the finished chunks go once more round the ring and replace what is there.
//
//       received in step   0  1  2 ┊ 3  4  5
//             rank 0 chunk 2  1  0 ┊ 3  2  1      left of ┊ added, the last one finished by its owner;
//             rank 1 chunk 3  2  1 ┊ 0  3  2      right of ┊ stored
//             rank 2 chunk 0  3  2 ┊ 1  0  3
//             rank 3 chunk 1  0  3 ┊ 2  1  0
//
// Cost per rank: 2(N−1) steps, one after the other, 2(N−1)/N · P elements sent and as many received, (N−1)/N · P
// additions. For two ranks this is the direct exchange of halves.
Schedule ring(const Topology& topology) {
  using Action = Receive::Action;
  const int steps = 2 * (topology.size() - 1);
  ScheduleWriter writer(topology);
  for (int step = 0; step < steps; ++step) {
    const Action action = step < steps / 2 - 1    ? Action::add
                          : step == steps / 2 - 1 ? Action::add_and_finish
                                                  : Action::store;
    writer.send(topology.rank_right(), topology.rank_left(1 + step));
    writer.receive(topology.rank_left(), topology.rank_left(2 + step), action);
  }
  return writer.take();
}

}  // namespace dcs3gd::comm
