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
  schedule_.sends.push_back({.to = to, .run = run, .after_receives = std::ranges::max(of(run, receives_of_))});
  std::ranges::fill(of(run, sends_of_), schedule_.sends.size());
}

void ScheduleWriter::receive(int from, const Run& run, Receive::Action action) {
  schedule_.receives.push_back(
      {.from = from, .run = run, .action = action, .after_sends = std::ranges::max(of(run, sends_of_))});
  std::ranges::fill(of(run, receives_of_), schedule_.receives.size());
}

std::vector<int> blamed_ranks(MakeSchedule make, const Topology& topology, std::size_t receive) {
  struct Wait {
    int rank;
    std::size_t receive;
  };
  std::vector<int> blamed;
  std::vector<Wait> waits{{topology.rank(), receive}};
  std::vector<std::size_t> seen(static_cast<std::size_t>(topology.size()));  // of each rank: so many receives
  for (std::size_t next = 0; next < waits.size(); ++next) {
    const Wait wait = waits[next];
    const Schedule receiver = make(topology.seen_from(wait.rank));
    const int from = receiver.receives[wait.receive].from;
    const Schedule sender = make(topology.seen_from(from));
    if (from != topology.rank() && std::ranges::count(blamed, from) == 0) blamed.push_back(from);
    // Receives are finished in order: the send waits for all of these.
    const std::size_t needed = send_of(sender, receiver, wait.rank, wait.receive).after_receives;
    std::size_t& known = seen[static_cast<std::size_t>(from)];
    for (; known < needed; ++known) waits.push_back({from, known});
  }
  return blamed;
}

}  // namespace dcs3gd::comm
