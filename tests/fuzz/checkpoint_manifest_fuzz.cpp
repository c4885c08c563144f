// The manifest of a checkpoint: only what was written is read.
#include "app/checkpoint/checkpoint_manifest.h"
#include "tests/fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace dcs3gd;
  const std::string text(reinterpret_cast<const char*>(data), size);
  fuzz::allow_refusal([&] { fuzz::require(app::to_text(app::parse_manifest(text)) == text); });
  return 0;
}
