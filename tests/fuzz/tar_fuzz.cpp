// A tar file: its samples, and the index that is written of them.
#include <algorithm>
#include <string_view>
#include <vector>

#include "data/photos/tar_shards.h"
#include "tests/data/tar_file.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

using namespace dcs3gd;
using namespace dcs3gd::data;

/// Chance does not find checksums: those of all blocks that look like headers are made right.
void mend_checksums(std::vector<std::uint8_t>& file) {
  constexpr std::size_t kBlockBytes = 512;
  constexpr std::string_view kMagic = "ustar";
  for (std::size_t at = 0; at + kBlockBytes <= file.size(); at += kBlockBytes) {
    const std::span block = std::span(file).subspan(at, kBlockBytes);
    if (std::ranges::equal(block.subspan(257, kMagic.size()), kMagic)) set_tar_checksum(block);
  }
}

void read(const std::vector<std::uint8_t>& file) {
  const PositionedFile tar(fuzz::write_input("input.tar", file));
  const TarSamples samples = index_tar(tar);
  const std::string index = tar_index_file(tar, samples);
  fuzz::write_input("input.tar.index", {reinterpret_cast<const std::uint8_t*>(index.data()), index.size()});
  TarSamples again;
  fuzz::require(read_tar_index(tar, again).empty());
  fuzz::require(again.index.names == samples.index.names && again.ignored == samples.ignored);
  for (const ShardRecord& record : samples.index.records) {
    fuzz::require(record.offset + record.bytes <= file.size() && record.label >= 0 && record.label < kMaxTarClasses);
  }
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<std::uint8_t> file(data, data + size);
  mend_checksums(file);
  fuzz::allow_refusal([&] { read(file); });
  return 0;
}
