#pragma once

#include <cstddef>
#include <string>

#include "comm/communicator.h"

namespace dcs3gd::comm {

/// One all-reduce of a test matrix.
struct AllReduceCase {
  std::size_t floats = 0;
  std::size_t tail = 0;
  Wire wire = Wire::fp32;
  float factor = 1;
  bool leaves_parts = false;
};

/// Runs the case on this rank and compares every element with the closed form; all ranks call it together. Returns what
/// is wrong, empty if nothing is. The summands are small integers, so with up to 16 ranks all partial sums are exact on
/// both wires.
std::string check_all_reduce(Communicator& communicator, const AllReduceCase& the_case);

/// Has a large plan and small ones in flight together, again and again, and waits for them in an order that differs
/// from rank to rank; all ranks call it together. Returns what is wrong: an element, or a small one that was started
/// after the large one and has not once overtaken it.
std::string check_plans_in_flight(Communicator& communicator);

/// Compares what `bytes` hash to on all ranks; returns what is wrong.
std::string check_same_bits(Communicator& communicator, const void* memory, std::size_t bytes);

}  // namespace dcs3gd::comm
