// A cached listing of an image folder: what was understood says the same when it is written and read again.
#include "data/photos/image_folder.h"
#include "tests/fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace dcs3gd;
  fuzz::allow_refusal([&] {
    const data::ImageListing listing = data::parse_listing("photos", {reinterpret_cast<const char*>(data), size});
    const std::string text = data::to_text(listing);
    fuzz::require(data::to_text(data::parse_listing("photos", text)) == text);
    for (std::uint32_t index = 0; index < listing.entries.size(); ++index) {
      fuzz::require(listing.path(index).size() < size + 10);
      fuzz::require(static_cast<std::size_t>(listing.entries[index].label) < listing.classes.size());
    }
  });
  return 0;
}
