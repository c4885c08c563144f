// What a file of weights says of its model: what was understood says the same when it is written and read again, and a
// network is built of it.

#include "app/model/model_card.h"
#include "tests/fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace dcs3gd;
  fuzz::allow_refusal([&] {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const auto card = app::card_from({{"dcs3gd.card", text}}, "model.safetensors");
    fuzz::require(app::card_from(app::to_metadata(*card), "model.safetensors") == card);
    app::build_graph(*card);
  });
  return 0;
}
