// IDX files, plain and gzip: images in front, then labels; the first two bytes say how long the images' file is.
#include <algorithm>

#include "data/stored/idx_reader.h"
#include "tests/fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace dcs3gd;
  constexpr std::size_t kLengthBytes = 2;
  if (size < kLengthBytes) return 0;
  const std::span rest(data + kLengthBytes, size - kLengthBytes);
  const std::size_t images_bytes = std::min<std::size_t>(data[0] | data[1] << 8, rest.size());
  const std::string images = fuzz::write_input("images-idx3-ubyte", rest.first(images_bytes));
  fuzz::write_input("labels-idx1-ubyte", rest.subspan(images_bytes));
  fuzz::allow_refusal([&] {
    const data::StoredImages stored = data::read_idx(images, data::Part::train, 10);
    fuzz::require(stored.pixels.size() == stored.labels.size() * static_cast<std::size_t>(stored.height) *
                                              static_cast<std::size_t>(stored.width));
  });
  return 0;
}
