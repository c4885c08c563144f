#pragma once

#include <cstddef>

#include "core/parameter_arena.h"

namespace dcs3gd::app {

/// The first slice of the part of the model that is never stale: the longest tail of whole slices with at most this
/// share of the parameters. 1: all of them.
std::size_t first_fresh_slice(const ParameterLayout& layout, double share);

}  // namespace dcs3gd::app
