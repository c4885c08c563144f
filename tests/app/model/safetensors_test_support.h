#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "app/model/safetensors.h"

/// What the tests of model files share: a small model, and files written by hand.
namespace dcs3gd::test {

inline ParameterArena make_arena(std::vector<ParameterSlice> slices) {
  return ParameterArena(std::make_shared<const ParameterLayout>(std::move(slices)));
}

/// A network of two layers and a batch norm: what a model looks like to files.
struct TinyModel {
  ParameterArena weights = make_arena({{"conv.weight", {2, 1, 3, 3}},
                                       {"bn.weight", {2}, ParameterKind::norm},
                                       {"fc.weight", {4, 2}},
                                       {"fc.bias", {4}, ParameterKind::bias}});
  ParameterArena statistics = make_arena(
      {{"bn.running_mean", {2}, ParameterKind::statistics}, {"bn.running_var", {2}, ParameterKind::statistics}});

  /// Every element another number.
  void number(float first) {
    for (float& value : weights.values()) value = first++;
    for (float& value : statistics.values()) value = first++;
  }
  void save(const std::string& path) const { app::save_safetensors(path, {&weights, &statistics}); }
  void load(const std::string& path, const std::vector<std::string>& skipped = {}) {
    app::load_safetensors(path, {&weights, &statistics}, skipped);
  }
  bool operator==(const TinyModel& other) const {
    return std::ranges::equal(weights.values(), other.weights.values()) &&
           std::ranges::equal(statistics.values(), other.statistics.values());
  }
};

template <typename Number>
std::string bytes_of(Number number) {
  return {reinterpret_cast<const char*>(&number), sizeof(number)};
}

/// The bytes of a file with this header and `data_bytes` zeros after it.
inline std::string file_of(const std::string& header, std::size_t data_bytes) {
  return bytes_of(std::uint64_t{header.size()}) + header + std::string(data_bytes, '\0');
}

inline std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                          std::uint64_t begin, std::uint64_t end) {
  return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":[)" +
         std::to_string(begin) + "," + std::to_string(end) + "]}";
}

}  // namespace dcs3gd::test
