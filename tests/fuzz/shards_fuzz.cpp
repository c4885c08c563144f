// A shard: its index, and the images it promises.
#include <algorithm>
#include <cstring>
#include <vector>

#include "core/hash.h"
#include "data/photos/shards.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

using namespace dcs3gd;
using namespace dcs3gd::data;

/// Chance does not find checksums: that of the index, at its place in the trailer, is made right where there is one.
void mend_checksum(std::vector<std::uint8_t>& file) {
  constexpr std::size_t kTrailerBytes = 48;
  constexpr std::size_t kChecksumAt = 24;
  if (file.size() < kTrailerBytes) return;
  std::uint8_t* trailer = file.data() + file.size() - kTrailerBytes;
  std::uint64_t begin = 0;
  std::memcpy(&begin, trailer, sizeof(begin));
  const std::size_t end = file.size() - kTrailerBytes;
  if (begin > end) return;
  const std::uint64_t checksum = hash_bytes(std::as_bytes(std::span(file).subspan(begin, end - begin)));
  std::memcpy(trailer + kChecksumAt, &checksum, sizeof(checksum));
}

void read(const std::vector<std::uint8_t>& file) {
  const std::string path = fuzz::write_input("shard.bin", file);
  const ShardIndex index = read_shard_index(path);
  const ShardManifest manifest{.classes = {"a", "b"}, .shards = {{"shard.bin", index.records.size()}}};
  const auto source = open_shards(std::filesystem::path(path).parent_path(), manifest).source;
  std::vector<std::uint8_t> image;
  for (std::uint32_t number = 0; number < std::min(source->size(), 16U); ++number) {
    source->fetch(number, image);
    fuzz::require(image.size() <= file.size() && !source->name(number).empty());
  }
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<std::uint8_t> file(data, data + size);
  fuzz::allow_refusal([&] { read(file); });
  mend_checksum(file);
  fuzz::allow_refusal([&] { read(file); });
  return 0;
}
