#pragma once

#include <string>

#include "data/options.h"
#include "nn/graph/layer_outline.h"
#include "nn/plan/pass.h"

namespace dcs3gd::app {

/// A JPEG with the first images of a batch, 16 at most, as the network gets them: cropped, flipped, mixed, in the
/// colours that they had before normalisation. Small ones are enlarged. So that people see what is trained on. Throws
/// Error{failure} if it cannot be written.
void write_first_batch(const std::string& path, const nn::BatchView& batch, const nn::ImageShape& shape,
                       const data::NormalizeOptions& normalization);

}  // namespace dcs3gd::app
