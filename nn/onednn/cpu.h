#pragma once

#include <string>

#include "nn/kernels/precision.h"

namespace dcs3gd::nn {

/// The instruction set that oneDNN uses on this machine, such as "avx512_core"; ONEDNN_MAX_CPU_ISA may lower it.
std::string instruction_set();

/// Whether oneDNN's formats have blocks of 16 channels here, and vectors of as many floats are to be had.
bool has_avx512();

/// Whether this processor computes in this precision by itself; oneDNN's emulation of bf16 does not count.
bool supports(Precision precision);

}  // namespace dcs3gd::nn
