#include "app/record/tensorboard_events.h"

#include <filesystem>
#include <limits>
#include <string>

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/support/file_helpers.h"
#include "tests/support/temporary_folder.h"

using namespace dcs3gd;
using namespace dcs3gd::app;
using dcs3gd::test::TemporaryFolder;

namespace {

std::uint32_t crc_of(const std::string& text) { return crc32c(std::as_bytes(std::span(text))); }

std::vector<std::filesystem::path> files_in(const std::string& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) files.push_back(entry.path());
  return files;
}

}  // namespace

TEST_CASE("crc32c gives the check values of RFC 3720") {
  CHECK(crc_of("123456789") == 0xE3069283U);
  CHECK(crc_of(std::string(32, '\0')) == 0x8A9136AAU);
  CHECK(crc_of(std::string(32, '\xFF')) == 0x62A8AB43U);
  CHECK(crc_of("") == 0);
}

TEST_CASE("an event file is there from the start, and has TensorBoard's name and first record") {
  const TemporaryFolder folder;
  const TensorBoardWriter writer(folder / "", {});
  const auto files = files_in(folder / "");
  REQUIRE(files.size() == 1);
  CHECK(files[0].filename().string().starts_with("events.out.tfevents."));
  const std::string content = test::content_of(files[0].string());
  // Length 24 = wall_time (9) + file_version (2 + 13); two checksums around it.
  REQUIRE(content.size() > 8 + 4 + 24 + 4);
  CHECK(content.substr(0, 8) == std::string("\x18\0\0\0\0\0\0\0", 8));
  CHECK(content.substr(12 + 9, 15) ==
        "\x1A\x0D"
        "brain.Event:2");
}

TEST_CASE("what has no numbers leaves no record; what is not finite is left out") {
  const TemporaryFolder folder;
  TensorBoardWriter writer(folder / "", {});
  const std::string path = files_in(folder / "")[0].string();
  const auto size = [&] { return test::content_of(path).size(); };
  const std::size_t before = size();
  writer.write(EndEvent{});
  writer.write(CheckpointEvent{});
  writer.write(StartEvent{});
  CHECK(size() == before);

  writer.write(EvalEvent{.step = 1, .top1 = 0.5, .top5 = 1, .loss = 2});
  const std::size_t with_all = size() - before;
  writer.write(EvalEvent{.step = 1, .top1 = 0.5, .top5 = 1, .loss = std::numeric_limits<double>::quiet_NaN()});
  CHECK(size() - before == 2 * with_all - (2 + 2 + 9 + 5));  // the value's two heads, its tag, its number
}

TEST_CASE("a resumed run voids the steps after its checkpoint") {
  const TemporaryFolder folder;
  TensorBoardWriter writer(folder / "", {});
  StartEvent start;
  start.resumed_from = 400;
  writer.write(start);
  // step 401; session_log {status: START}
  CHECK(test::contains(test::content_of(files_in(folder / "")[0].string()), "\x10\x91\x03\x3A\x02\x08\x01"));
}

TEST_CASE("a folder that is not there is an error") {
  const TemporaryFolder folder;
  CHECK(test::error_of([&] { TensorBoardWriter(folder / "missing", {}); }).kind() == ErrorKind::failure);
}
