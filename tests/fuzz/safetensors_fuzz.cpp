// Files of weights: their header, the values of all tensors, and loading into a small model.
#include <memory>
#include <vector>

#include "app/model/safetensors.h"
#include "tests/fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace dcs3gd;
  const std::string path = fuzz::write_input("model.safetensors", {data, size});
  fuzz::allow_refusal([&] {
    const app::SafetensorsFile file(path);
    for (const app::SafetensorsEntry& entry : file.entries()) {
      fuzz::require(entry.bytes <= size);
      if (entry.dtype != "F32") continue;
      std::vector<float> values(entry.bytes / sizeof(float));
      file.read(entry, values);
    }
  });
  ParameterArena weights(std::make_shared<const ParameterLayout>(
      std::vector<ParameterSlice>{{"fc.weight", {4, 2}}, {"fc.bias", {4}, ParameterKind::bias}}));
  fuzz::allow_refusal([&] { app::load_safetensors(path, {&weights}); });
  return 0;
}
