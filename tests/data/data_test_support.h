#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "core/error.h"
#include "data/formats.h"
#include "data/read_buffers.h"
#include "data/transform/sample_transform.h"
#include "tests/support/temporary_folder.h"

namespace dcs3gd::data {

using Bytes = std::vector<std::uint8_t>;

using test::TemporaryFolder;

/// Sets or unsets an environment variable; restores it at the end.
class ScopedVariable {
 public:
  ScopedVariable(std::string name, const std::optional<std::string>& value) : name_(std::move(name)) {
    if (const char* old = std::getenv(name_.c_str())) old_ = old;
    set(value);
  }
  ScopedVariable(const ScopedVariable&) = delete;
  ScopedVariable& operator=(const ScopedVariable&) = delete;
  ~ScopedVariable() { set(old_); }

 private:
  void set(const std::optional<std::string>& value) {
    if (value) {
      setenv(name_.c_str(), value->c_str(), 1);
    } else {
      unsetenv(name_.c_str());
    }
  }
  std::string name_;
  std::optional<std::string> old_;
};

/// A file or folder of the real data sets. Without it the process ends here as skipped, with the reason: cases that
/// call this are entries of their own in ctest.
inline std::filesystem::path require_data(const std::string& name) {
  const char* const folder = std::getenv("DCS3GD_DATA");
  std::filesystem::path path = std::filesystem::path(folder == nullptr ? "/nonexistent" : folder) / name;
  if (std::filesystem::exists(path)) return path;
  std::printf("skipped: no %s under DCS3GD_DATA\n", name.c_str());
  std::exit(77);
}

inline void write_file(const std::string& path, const Bytes& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  REQUIRE(file.good());
}

inline SampleTransform transform_of(const DataOptions& options, Part part, std::uint64_t seed) {
  return {options, normalization_of(options), part, seed};
}

inline Bytes read_image(const Dataset& dataset, std::uint32_t index, std::int32_t* label = nullptr) {
  Bytes pixels(dataset.image_bytes());
  ReadBuffers buffers;
  const ReadResult result = dataset.read(index, CropRule::center(dataset.width()), buffers, pixels);
  REQUIRE(result.problem == "");
  if (label != nullptr) *label = result.label;
  return pixels;
}

/// The message of the Error{input} that `action` must throw.
template <typename Action>
std::string input_error(Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    return error.what();
  }
  FAIL_CHECK("expected an Error{input}, nothing was thrown");
  return {};
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace dcs3gd::data
