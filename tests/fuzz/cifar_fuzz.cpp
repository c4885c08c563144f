// CIFAR's binary files, of both kinds.

#include "data/stored/cifar_reader.h"
#include "tests/fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace dcs3gd;
  const std::string path = fuzz::write_input("data.bin", {data, size});
  for (const auto read : {data::read_cifar10, data::read_cifar100}) {
    fuzz::allow_refusal([&] {
      const data::StoredImages stored = read(path, data::Part::train, 100);
      fuzz::require(stored.pixels.size() == stored.labels.size() * 3 * 32 * 32 && stored.pixels.size() <= size);
    });
  }
  return 0;
}
