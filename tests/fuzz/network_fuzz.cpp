// A network in YAML: refused, or a graph of bounded size.
#include "app/config/network_reader.h"
#include "tests/fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace dcs3gd;
  const std::string text(reinterpret_cast<const char*>(data), size);
  fuzz::allow_refusal([&] {
    const nn::Graph graph = app::build_network({.file = "fuzz.yaml", .text = text}, {});
    fuzz::require(!graph.nodes().empty());
  });
  return 0;
}
