#pragma once

#include <cstddef>
#include <cstdint>

namespace dcs3gd::comm {

/// The loops of the ring over one segment, on the calling thread, vectorised. bf16 is the upper half of an IEEE float,
/// as 16 bits; conversion to it rounds to nearest, ties to even; too large becomes infinite, and NaN stays NaN.

void to_bf16(const float* from, std::uint16_t* to, std::size_t count);
void from_bf16(const std::uint16_t* from, float* to, std::size_t count);

/// sum += incoming
void add(const float* incoming, float* sum, std::size_t count);
void add(const std::uint16_t* incoming, float* sum, std::size_t count);

/// values *= factor
void scale(float factor, float* values, std::size_t count);

/// sum = factor · (sum + incoming): the owner's last step. From bf16 the result is rounded to bf16, the value that the
/// other ranks get.
void add_and_scale(const float* incoming, float factor, float* sum, std::size_t count);
void add_and_scale(const std::uint16_t* incoming, float factor, float* sum, std::size_t count);

}  // namespace dcs3gd::comm
