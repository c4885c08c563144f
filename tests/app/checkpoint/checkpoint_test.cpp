#include "app/checkpoint/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <sys/stat.h>

#include "app/checkpoint/checkpoint_files.h"
#include "app/checkpoint/checkpoint_writer.h"
#include "comm/thread_world.h"
#include "tests/support/file_helpers.h"
#include "tests/support/temporary_folder.h"

namespace fs = std::filesystem;

using namespace dcs3gd;
using namespace dcs3gd::app;
using dcs3gd::test::contains;
using dcs3gd::test::content_of;
using dcs3gd::test::error_of;
using dcs3gd::test::TemporaryFolder;
using dcs3gd::test::write_file;

namespace {

constexpr int kTinyRanks = 2;
const std::vector<std::string> kTinyFiles = {"manifest.json", "model.safetensors", "shared.state", "worker-00000.state",
                                             "worker-00001.state"};

/// Checkpoints of a few numbers, of steps 1, 2 and 3, to be damaged.
struct TinyCheckpoints {
  TinyCheckpoints() {
    const auto weights = std::make_shared<const ParameterLayout>(
        std::vector<ParameterSlice>{{.name = "fc.weight", .shape = Shape({2, 3}), .kind = ParameterKind::weight}});
    const auto means = std::make_shared<const ParameterLayout>(
        std::vector<ParameterSlice>{{.name = "bn.mean", .shape = Shape({2}), .kind = ParameterKind::statistics}});
    comm::run_ranks_as_threads(kTinyRanks, {}, [&](comm::Communicator& communicator) {
      ParameterArena values(weights);
      ParameterArena statistics(means);
      std::ranges::fill(values.values(), static_cast<float>(communicator.rank() + 1));
      CheckpointWriter writer(communicator, folder(), 3);
      for (const std::int64_t step : {1, 2, 3}) {
        const CheckpointContent content{
            .mean_model = values,
            .mean_statistics = statistics,
            .local_statistics = statistics,
            .state = {.shared = {{"mean_weights", &values}}, .workers = {{{"update", &values}}}}};
        writer.begin({.version = "test", .position = {.step = step}, .ranks = kTinyRanks, .best_top1 = 0.1},
                     checkpoint_files(communicator.rank(), content));
        while (writer.is_writing()) writer.advance();
      }
    });
  }

  std::string folder() const { return temporary.path().string(); }
  std::string newest(const std::string& file) const { return folder() + "/step-00000003/" + file; }

  /// The step of the newest whole one.
  std::int64_t find() const {
    const auto communicator = comm::Communicator::open({});
    return find_newest_checkpoint(*communicator, folder())->manifest.position.step;
  }

  TemporaryFolder temporary;
};

}  // namespace

TEST_CASE("a file cut off at any length, or missing: the checkpoint before is found") {
  const TinyCheckpoints checkpoints;
  REQUIRE(checkpoints.find() == 3);
  for (const std::string& name : kTinyFiles) {
    const std::string content = content_of(checkpoints.newest(name));
    REQUIRE(content.size() > 50);
    for (std::size_t length = 0; length < content.size(); ++length) {
      CAPTURE(name);
      CAPTURE(length);
      write_file(checkpoints.newest(name), content.substr(0, length));
      REQUIRE(checkpoints.find() == 2);
    }
    fs::remove(checkpoints.newest(name));
    CHECK(checkpoints.find() == 2);
    write_file(checkpoints.newest(name), content + "x");
    CHECK(checkpoints.find() == 2);
    write_file(checkpoints.newest(name), content);
    CHECK(checkpoints.find() == 3);
  }
}

TEST_CASE("a flipped bit anywhere: the checkpoint before is found") {
  const TinyCheckpoints checkpoints;
  for (const std::string& name : kTinyFiles) {
    const std::string content = content_of(checkpoints.newest(name));
    for (std::size_t at = 0; at < content.size(); ++at) {
      CAPTURE(name);
      CAPTURE(at);
      std::string damaged = content;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << at % 8));
      write_file(checkpoints.newest(name), damaged);
      REQUIRE(checkpoints.find() == 2);
    }
    write_file(checkpoints.newest(name), content);
  }
  CHECK(checkpoints.find() == 3);
}

TEST_CASE("with no whole checkpoint left a run is refused, not started again") {
  const TinyCheckpoints checkpoints;
  for (const std::string step : {"1", "2", "3"}) {
    fs::resize_file(checkpoints.folder() + "/step-0000000" + step + "/shared.state", 40);
  }
  const Error error = error_of([&] { checkpoints.find(); });
  CHECK(error.kind() == ErrorKind::input);
  CHECK(contains(error.what(), "--resume never"));
}

TEST_CASE("a copy keeps what was, in the same memory every time") {
  const auto layout = std::make_shared<const ParameterLayout>(
      std::vector<ParameterSlice>{{.name = "fc.weight", .shape = Shape({2, 3}), .kind = ParameterKind::weight}});
  ParameterArena values(layout);
  const std::vector<CheckpointFile> files = {{"one", {{&values, "v."}}}, {"two", {{&values}}}};
  CheckpointCopy copy(files);
  std::ranges::fill(values.values(), 1.0F);
  const std::vector<CheckpointFile> first = copy.take(files);
  std::ranges::fill(values.values(), 2.0F);
  REQUIRE(first.size() == 2);
  CHECK(first[0].name == "one");
  CHECK(first[0].arrays[0].prefix == "v.");
  for (const CheckpointFile& file : first) {
    CHECK(std::ranges::count(file.arrays[0].arena->values(), 1.0F) == 6);
  }
  const std::vector<CheckpointFile> second = copy.take(files);
  CHECK(second[1].arrays[0].arena == first[1].arrays[0].arena);
  CHECK(std::ranges::count(second[1].arrays[0].arena->values(), 2.0F) == 6);
}

TEST_CASE("begin() does not wait for the files") {
  const TemporaryFolder temporary;
  const std::string folder = temporary.path().string();
  // Opening a pipe waits for someone who reads it; and a pipe cannot be made durable.
  REQUIRE(mkfifo((folder + "/slow.tmp").c_str(), 0600) == 0);
  const auto communicator = comm::Communicator::open({});
  CheckpointWriter writer(*communicator, folder, 3);
  writer.begin({.version = "test", .position = {.step = 1}}, {{"../slow", {}}});
  CHECK(writer.is_writing());
  CHECK_FALSE(writer.is_ready());
  CHECK(fs::exists(folder + "/step-00000001.tmp"));
  const std::ifstream reader(folder + "/slow.tmp");
  const Error error = error_of([&] { writer.advance(); });
  CHECK(error.kind() == ErrorKind::failure);
  CHECK(error.scope() == ErrorScope::all_ranks);
  CHECK_FALSE(writer.is_writing());
  CHECK_FALSE(fs::exists(folder + "/step-00000001.tmp"));
}

TEST_CASE("a checkpoint's name sorts by its step") {
  CHECK(checkpoint_name(7) == "step-00000007");
  CHECK(checkpoint_name(123456789) == "step-123456789");
}
