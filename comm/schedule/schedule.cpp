#include "comm/schedule/schedule.h"

#include <algorithm>
#include <span>

namespace dcs3gd::comm {
namespace {

/// What the sender of a receive does for it. Between two ranks the n-th receive is of the n-th send.
const Send& send_of(const Schedule& sender, const Schedule& receiver, int receiver_rank, std::size_t receive) {
  const std::span receives(receiver.receives);
  auto send = std::ranges::find(sender.sends, receiver_rank, &Send::to);
  for (auto left = std::ranges::count(receives.first(receive), receives[receive].from, &Receive::from); left > 0;
       --left) {
    send = std::ranges::find(send + 1, sender.sends.end(), receiver_rank, &Send::to);
  }
  return *send;
}

/// The entries of a run's chunks.
std::span<std::size_t> of(const Run& run, std::vector<std::size_t>& by_chunk) {
  return std::span(by_chunk).subspan(static_cast<std::size_t>(run.chunk), static_cast<std::size_t>(run.chunks));
}

}  // namespace

void ScheduleWriter::send(int to, const Run& run) {
  schedule_.sends.push_back({.to = to,
                             .run = run,
                             .after_receives = std::ranges::max(of(run, receives_of_)),
                             .is_finished = is_finished_[static_cast<std::size_t>(run.chunk)]});
  std::ranges::fill(of(run, sends_of_), schedule_.sends.size());
}

void ScheduleWriter::receive(int from, const Run& run, Receive::Action action) {
  schedule_.receives.push_back(
      {.from = from, .run = run, .action = action, .after_sends = std::ranges::max(of(run, sends_of_))});
  std::ranges::fill(of(run, receives_of_), schedule_.receives.size());
  if (action != Receive::Action::add) std::fill_n(is_finished_.begin() + run.chunk, run.chunks, true);
}

std::vector<int> blamed_ranks(MakeSchedule make, const Topology& topology, std::size_t receive) {
  struct Wait {
    int rank;
    std::size_t receive;
  };
  const auto ranks = static_cast<std::size_t>(topology.size());
  std::vector<Schedule> schedules(ranks);  // of a rank once it is looked at
  const auto schedule_of = [&](int rank) -> const Schedule& {
    Schedule& schedule = schedules[static_cast<std::size_t>(rank)];
    if (schedule.receives.empty()) schedule = make(topology.seen_from(rank));
    return schedule;
  };
  std::vector<int> blamed;
  std::vector<bool> is_blamed(ranks);
  is_blamed[static_cast<std::size_t>(topology.rank())] = true;
  std::vector<Wait> waits{{topology.rank(), receive}};
  std::vector<std::size_t> seen(ranks);  // of each rank: so many receives
  for (std::size_t next = 0; next < waits.size() && blamed.size() + 1 < ranks; ++next) {
    const Wait wait = waits[next];
    const Schedule& receiver = schedule_of(wait.rank);
    const int from = receiver.receives[wait.receive].from;
    const auto sender = static_cast<std::size_t>(from);
    if (!is_blamed[sender]) blamed.push_back(from);
    is_blamed[sender] = true;
    // Receives are finished in order: the send waits for all of these.
    const std::size_t needed = send_of(schedule_of(from), receiver, wait.rank, wait.receive).after_receives;
    for (; seen[sender] < needed; ++seen[sender]) waits.push_back({from, seen[sender]});
  }
  return blamed;
}

}  // namespace dcs3gd::comm
