#include "comm/schedule/schedule.h"

namespace dcs3gd::comm {
namespace {

/// Ranks that hold sums of the same chunks, those of their own numbers.
struct Group {
  int first;
  int count;

  int lower_count() const { return (count + 1) / 2; }
  int middle() const { return first + lower_count(); }
  Run lower_run() const { return {.chunk = first, .chunks = lower_count()}; }
  Run upper_run() const { return {.chunk = middle(), .chunks = count - lower_count()}; }
  bool has_lower(int rank) const { return rank < middle(); }
  Group half_of(int rank) const {
    return has_lower(rank) ? Group{first, lower_count()} : Group{middle(), count - lower_count()};
  }
  /// Who has no partner where the halves differ.
  bool has_alone(int rank) const { return count % 2 == 1 && rank == middle() - 1; }
  /// Of the one alone it is the first of the upper half, who has two partners.
  int partner_of(int rank) const {
    if (has_alone(rank)) return middle();
    return has_lower(rank) ? rank + lower_count() : rank - lower_count();
  }
};

void halve(ScheduleWriter& writer, const Group& group, int rank) {
  const bool is_lower = group.has_lower(rank);
  const Run own = is_lower ? group.lower_run() : group.upper_run();
  const auto action = own.chunks == 1 ? Receive::Action::add_and_finish : Receive::Action::add;
  writer.send(group.partner_of(rank), is_lower ? group.upper_run() : group.lower_run());
  if (group.has_alone(rank)) return;
  const bool has_two = group.has_alone(group.middle() - 1) && rank == group.middle();
  writer.receive(group.partner_of(rank), own, has_two ? Receive::Action::add : action);
  if (has_two) writer.receive(group.middle() - 1, own, action);
}

void double_again(ScheduleWriter& writer, const Group& group, int rank) {
  const bool is_lower = group.has_lower(rank);
  const Run own = is_lower ? group.lower_run() : group.upper_run();
  if (!group.has_alone(rank)) writer.send(group.partner_of(rank), own);
  if (group.has_alone(group.middle() - 1) && rank == group.middle()) writer.send(group.middle() - 1, own);
  writer.receive(group.partner_of(rank), is_lower ? group.upper_run() : group.lower_run(), Receive::Action::store);
}

/// Halving on the way down, doubling on the way up.
void exchange(ScheduleWriter& writer, const Group& group, int rank) {
  if (group.count == 1) return;
  halve(writer, group, rank);
  exchange(writer, group.half_of(rank), rank);
  double_again(writer, group, rank);
}

}  // namespace

// Halving and doubling: partners swap the half that is the other's, then halves of that, and give the sums back in the
// opposite order. Rank r owns chunk r.
//
//            chunk 0    1    2    3        step 1: ranks 0 and 2 swap, 1 and 3: a2 a3 for c0 c1, b2 b3 for d0 d1
//     rank 0 [ a0 | a1 | a2 | a3 ]         step 2: ranks 0 and 1 swap: (a1 + c1) for (b0 + d0); ranks 2 and 3 likewise:
//     rank 1 [ b0 | b1 | b2 | b3 ]                 chunk 0 is complete at rank 0, (a0 + c0) + (b0 + d0), and so on
//     rank 2 [ c0 | c1 | c2 | c3 ]         step 3: ranks 0 and 1 swap their finished chunks, 2 and 3 likewise
//     rank 3 [ d0 | d1 | d2 | d3 ]         step 4: ranks 0 and 2 swap theirs, two each, 1 and 3 likewise
//
// Any number of ranks: of an odd group the lower half has one rank more. Alone without a partner, it sends its summands
// to the first of the upper half, who adds both, and has its sums back from there. With three ranks:
//
//     step 1: rank 0 sends a2 to rank 2, rank 1 sends b2 to rank 2, rank 2 sends c0 c1 to rank 0
//     step 2: ranks 0 and 1 swap b0 for (a1 + c1)                         chunk 2 is complete already
//     step 3: they swap their finished chunks
//     step 4: rank 0 sends chunks 0 1 to rank 2, rank 2 sends chunk 2 to both
//
// Cost per rank: 2⌈log2 N⌉ steps and messages, 2(N−1)/N · P elements sent and as many received, (N−1)/N · P additions.
// In an odd group one rank has up to half as much again, and two messages in a step. Every rank does that once at most.
// On the bf16 wire a sum is rounded once in each halving, ⌈log2 N⌉ times, and once more when it is finished.
Schedule halving_doubling(const Topology& topology) {
  ScheduleWriter writer(topology);
  exchange(writer, {0, topology.size()}, topology.rank());
  return writer.take();
}

}  // namespace dcs3gd::comm
