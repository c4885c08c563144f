// The manifest of a folder of shards: what was understood says the same when it is written and read again.
#include "data/photos/shards.h"
#include "tests/fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace dcs3gd;
  const auto read = [](std::span<const std::uint8_t> bytes) {
    const std::filesystem::path path = fuzz::write_input(data::kShardManifest, bytes);
    return data::to_text(data::read_shard_manifest(path.parent_path()));
  };
  fuzz::allow_refusal([&] {
    const std::string text = read({data, size});
    fuzz::require(read({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}) == text);
  });
  return 0;
}
