#pragma once

#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>

#include "core/error.h"
#include "tests/support/temporary_folder.h"

/// What libFuzzer calls with every input it makes up. Each target is one file of this folder.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace dcs3gd::fuzz {

/// Ends the process as a finding unless `holds`.
inline void require(bool holds) {
  if (!holds) std::abort();
}

/// One second of the processor's time, tenfold for the sanitizers. The clock on the wall, which libFuzzer takes, runs
/// on when the machine has other things to do.
class TimeLimit {
 public:
  TimeLimit() = default;
  TimeLimit(const TimeLimit&) = delete;
  TimeLimit& operator=(const TimeLimit&) = delete;
  ~TimeLimit() { require(std::clock() - begin_ < 10 * CLOCKS_PER_SEC); }

 private:
  std::clock_t begin_ = std::clock();
};

/// Runs what may refuse its input, as bad input. Any other exception is a finding, as is one without words.
template <typename Action>
void allow_refusal(Action&& action) {
  const TimeLimit limit;
  try {
    action();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::input || std::string_view(error.what()).empty()) throw;
  }
}

/// A folder for readers that take paths; each input replaces its files.
inline std::string write_input(const std::string& name, std::span<const std::uint8_t> bytes) {
  static const test::TemporaryFolder folder;
  std::string path = folder / name;
  std::filesystem::remove(path);  // file systems make sure of the content of a file that was emptied: slow
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  file.close();
  require(file.good());
  return path;
}

}  // namespace dcs3gd::fuzz
