// The C++ side of safetensors_interchange.py: writes a small model to a file, or reads one and checks it.
// Usage: safetensors_interchange write|read FILE

#include <cmath>
#include <cstdio>
#include <memory>
#include <string>

#include "app/model/safetensors.h"
#include "core/error.h"

using namespace dcs3gd;

namespace {

/// Element i of the flat array of a model; the Python side has the same formula.
float value_at(std::size_t i) { return static_cast<float>(i) / 3.0F - 5.0F; }

ParameterArena make_arena(std::vector<ParameterSlice> slices) {
  return ParameterArena(std::make_shared<const ParameterLayout>(std::move(slices)));
}

}  // namespace

int main(int argument_count, char** arguments) {
  if (argument_count != 3) return static_cast<int>(ErrorKind::input);
  const bool writes = std::string(arguments[1]) == "write";
  const std::string path = arguments[2];
  ParameterArena weights = make_arena({{"conv1.weight", {4, 3, 3, 3}}, {"bn1.weight", {4}}, {"fc.bias", {10}}});
  ParameterArena statistics = make_arena({{"bn1.running_mean", {4}}, {"bn1.running_var", {4}}});
  try {
    if (!writes) app::load_safetensors(path, {&weights, &statistics});
    std::size_t i = 0;
    for (ParameterArena* arena : {&weights, &statistics}) {
      for (float& value : arena->values()) {
        if (writes) value = value_at(i);
        if (value != value_at(i)) throw Error(ErrorKind::failure, "element " + std::to_string(i) + " differs");
        ++i;
      }
    }
    if (writes) app::save_safetensors(path, {&weights, &statistics}, {{"format", "pt"}});
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return error.exit_code();
  }
  return 0;
}
