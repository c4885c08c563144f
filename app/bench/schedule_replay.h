#pragma once

#include <cstddef>
#include <vector>

#include "app/rules/step_model.h"
#include "comm/schedule/algorithms.h"

/// All-reduces in time: the schedules of comm/schedule carried out by events, message by message.
namespace dcs3gd::app {

/// A network in which every rank has a link of its own to a switch that is never in the way, and one thread for its
/// messages.
struct NetworkModel {
  double latency_ms = 0;    ///< of a message beside the time that its bytes need
  double bytes_per_ms = 0;  ///< of a link, in each direction
  double message_ms = 0;    ///< of the thread, for each message that comes
  double ms_per_float = 0;  ///< of the thread, for what comes: added, or stored from another type
  double bits = 32;         ///< of a float on the wire
  double buffer_bytes = 0;  ///< that the system takes at once, to send them in their order: nothing urgent overtakes
  std::size_t segment_bytes = std::size_t{60} << 10;
};

/// An all-reduce of so many floats that all ranks start at once and nothing else disturbs, by one rank's lists: exact
/// for schedules in which all ranks do alike, whatever they send as the n-th coming as the receiver's n-th. Throws
/// Error{input} for others.
LinkTime replay_alone(const comm::AlgorithmInfo& algorithm, int ranks, std::size_t floats, const NetworkModel& network);

/// As predict_steps(), but each message of each rank is followed: links in both directions, the thread that adds, what
/// waits for what, and the most urgent first. The cost grows with the number of messages.
StepTimes replay_steps(const StepPlan& plan, const std::vector<std::size_t>& elements,
                       const comm::AlgorithmInfo& algorithm, const NetworkModel& network, int ranks, const PaceOf& pace,
                       std::size_t warm_up, std::size_t steps);

}  // namespace dcs3gd::app
