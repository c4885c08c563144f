#pragma once

#include <string>

namespace dcs3gd::nn {

/// The instruction set that oneDNN uses on this machine, such as "avx512_core"; ONEDNN_MAX_CPU_ISA may lower it.
std::string instruction_set();

}  // namespace dcs3gd::nn
