#pragma once

#include <cstddef>

#include "app/config/configuration.h"
#include "app/model/model.h"
#include "comm/communicator.h"

namespace dcs3gd::app {

/// Collective: the median time of a few all-reduces of so many values on the configured wire, in milliseconds; 0 on one
/// rank.
double measure_all_reduce_ms(const Configuration& configuration, comm::Communicator& communicator, std::size_t floats);

/// Collective: the share of the parameters to be fresh, the same on all ranks. With `algorithm.fresh: auto` it is what
/// the link hides, found by a few passes on random images and a few all-reduces of the model's size; training does not
/// notice, but for the time. Else it is the one of the configuration.
double plan_fresh_share(const Configuration& configuration, comm::Communicator& communicator, Model& model);

}  // namespace dcs3gd::app
