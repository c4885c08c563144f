#pragma once

#include <cstddef>
#include <cstdint>

#include "comm/schedule/wire.h"

namespace dcs3gd::comm {

/// The loops of an all-reduce over one segment, on the calling thread, vectorised. bf16 is the upper half of an IEEE
/// float, as 16 bits; conversion to it rounds to nearest, ties to even; too large becomes infinite, and NaN stays NaN.

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

/// The narrow wires (is_narrow(Wire)). A block of kBlockFloats is a scale, that of its largest magnitude, and the
/// nearest whole multiples of it: up to ±127 in int8, ±7 in int4. A block of zeros, or of numbers below 2⁻¹⁰⁰, is
/// zeros; of a block that holds NaN or infinity nothing is finite. What decode() gives is encoded as the same bytes.

/// Where there is a `loss`, it is added before, and becomes what the rounding loses now.
void encode(Wire wire, const float* from, float* loss, std::byte* to, std::size_t count);
void decode(Wire wire, const std::byte* from, float* to, std::size_t count);
/// sum += incoming
void add(Wire wire, const std::byte* incoming, float* sum, std::size_t count);
/// sum = factor · sum, rounded as by encode() and decode(): the owner's last step. A loss is in the units of the sum
/// before the factor.
void scale_and_round(Wire wire, float factor, float* loss, float* sum, std::size_t count);

}  // namespace dcs3gd::comm
