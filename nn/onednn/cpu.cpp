#include "nn/onednn/cpu.h"

#include <map>

#include <dnnl.hpp>

namespace dcs3gd::nn {

namespace {

/// Sets of bits: what came later includes it.
bool includes(dnnl::cpu_isa needed) {
  const auto bits = [](dnnl::cpu_isa isa) { return static_cast<unsigned>(isa); };
  return (bits(dnnl::get_effective_cpu_isa()) & bits(needed)) == bits(needed);
}

}  // namespace

std::string instruction_set() {
  using dnnl::cpu_isa;
  static const std::map<cpu_isa, const char*> names{
      {cpu_isa::sse41, "sse41"},
      {cpu_isa::avx, "avx"},
      {cpu_isa::avx2, "avx2"},
      {cpu_isa::avx2_vnni, "avx2_vnni"},
      {cpu_isa::avx512_core, "avx512_core"},
      {cpu_isa::avx512_core_vnni, "avx512_core_vnni"},
      {cpu_isa::avx512_core_bf16, "avx512_core_bf16"},
      {cpu_isa::avx512_core_amx, "avx512_core_amx"},
  };
  const auto entry = names.find(dnnl::get_effective_cpu_isa());
  return entry == names.end() ? "other" : entry->second;
}

bool has_avx512() { return includes(dnnl::cpu_isa::avx512_core); }

bool supports(Precision precision) { return precision == Precision::fp32 || includes(dnnl::cpu_isa::avx512_core_bf16); }

}  // namespace dcs3gd::nn
