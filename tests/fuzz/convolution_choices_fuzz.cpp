// The file of a machine's or a run's convolutions: what was understood says the same when it is written and read again.
#include "nn/plan/convolution_choices.h"
#include "tests/fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace dcs3gd;
  fuzz::allow_refusal([&] {
    const auto choices = nn::ConvolutionChoices::from_text({reinterpret_cast<const char*>(data), size});
    fuzz::require(nn::ConvolutionChoices::from_text(choices.to_text()) == choices);
  });
  return 0;
}
