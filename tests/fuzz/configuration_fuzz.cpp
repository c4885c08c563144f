// The configuration: what was understood says the same when it is written and read again.
#include "app/config/configuration.h"
#include "app/config/yaml_reader.h"
#include "tests/fuzz/fuzz_target.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace dcs3gd;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const app::YamlDocument document = app::parse_yaml(text);
  fuzz::require(app::describe(document.root).size() < 1000);
  fuzz::allow_refusal([&] {
    const app::Configuration read = app::parse_configuration({.file_name = "fuzz.yaml", .text = text, .overrides = {}});
    const app::Configuration again =
        app::parse_configuration({.file_name = "again.yaml", .text = app::to_yaml(read), .overrides = {}});
    fuzz::require(app::to_lines(again) == app::to_lines(read));
  });
  return 0;
}
