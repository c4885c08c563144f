#pragma once

#include <cstddef>
#include <span>

#include "core/random_stream.h"

namespace dcs3gd::data {

/// The largest alpha: shares then hardly differ from one half, and a larger one is taken for a mistake.
constexpr float kMaxMixupAlpha = 100;

/// A number from the Beta(alpha, alpha) distribution: mean 1/2, variance 1 / (4 (2 alpha + 1)).
float draw_mixup_share(float alpha, RandomStream& random);

/// Mixes `count` images of equal length, in place: image i becomes share · image i + (1 − share) · image i − 1, the
/// first one with the last. That is the batch rolled by one, as torchvision's references mix.
void mix_images(float share, std::size_t count, std::span<float> images);

}  // namespace dcs3gd::data
