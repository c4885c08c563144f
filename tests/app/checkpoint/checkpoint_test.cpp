#include "app/checkpoint/checkpoint.h"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <functional>
#include <future>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "app/checkpoint/checkpoint_files.h"
#include "app/checkpoint/checkpoint_writer.h"
#include "app/job/agreement.h"
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

/// Checkpoints of a few numbers, of steps 1, 2 and 3.
void write_tiny_checkpoints(
    const std::string& folder, const std::function<void()>& expect_held = [] {}) {
  const auto weights = std::make_shared<const ParameterLayout>(
      std::vector<ParameterSlice>{{.name = "fc.weight", .shape = Shape({2, 3}), .kind = ParameterKind::weight}});
  const auto means = std::make_shared<const ParameterLayout>(
      std::vector<ParameterSlice>{{.name = "bn.mean", .shape = Shape({2}), .kind = ParameterKind::statistics}});
  comm::run_ranks_as_threads(kTinyRanks, {}, [&](comm::Communicator& communicator) {
    ParameterArena values(weights);
    ParameterArena statistics(means);
    const ParameterArena frozen(std::make_shared<const ParameterLayout>(
        std::vector<ParameterSlice>{{.name = "conv.weight", .shape = Shape({3})}}));
    std::ranges::fill(values.values(), static_cast<float>(communicator.rank() + 1));
    CheckpointWriter writer(communicator, folder, 3, expect_held);
    for (const std::int64_t step : {1, 2, 3}) {
      const CheckpointContent content{
          .mean_model = values,
          .mean_statistics = statistics,
          .local_statistics = statistics,
          .frozen = frozen,
          .state = {.shared = {{"mean_weights", &values}}, .workers = {{{"update", &values}}}}};
      writer.begin({.version = "test", .position = {.step = step}, .ranks = kTinyRanks, .best_top1 = 0.1},
                   checkpoint_files(communicator.rank(), content));
      while (writer.is_writing()) writer.advance();
    }
  });
}

/// Those, to be damaged.
struct TinyCheckpoints {
  TinyCheckpoints() { write_tiny_checkpoints(folder()); }

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

TEST_CASE("a run whose folder was taken over leaves alone what the other writes there, from that moment on") {
  bool is_done = false;
  int held_for = 0;
  for (; !is_done; ++held_for) {
    CAPTURE(held_for);
    const TemporaryFolder temporary;
    const std::vector<std::string> theirs = {temporary / "step-00000001.tmp/theirs",
                                             temporary / "step-00000002.tmp/theirs",
                                             temporary / "step-00000003.tmp/theirs"};
    int asked = 0;
    const auto expect_held = [&] {
      if (asked++ < held_for) return;
      for (const std::string& file : theirs) {
        fs::create_directories(fs::path(file).parent_path());
        write_file(file, "theirs");
      }
      throw Error(ErrorKind::failure, "taken over");
    };
    const auto error = attempt([&] { write_tiny_checkpoints(temporary.path().string(), expect_held); });
    is_done = asked == held_for;
    CHECK(error.has_value() != is_done);
    for (const std::string& file : theirs) CHECK(fs::exists(file) != is_done);
  }
  CHECK(held_for > 3 * 3);
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

TEST_CASE("a number that no run has is refused, in whatever file with the right checksum") {
  const TinyCheckpoints checkpoints;
  const CheckpointManifest whole = parse_manifest(content_of(checkpoints.newest("manifest.json")));
  const auto is_refused = [&](const std::function<void(CheckpointManifest&)>& change) {
    CheckpointManifest changed = whole;
    change(changed);
    write_file(checkpoints.newest("manifest.json"), to_text(changed));
    return checkpoints.find() == 2;
  };
  CHECK_FALSE(is_refused([](CheckpointManifest&) {}));
  for (const int number : {0, -2, 1 << 30}) {
    CAPTURE(number);
    CHECK(is_refused([&](CheckpointManifest& m) { m.ranks = number; }));
    CHECK(is_refused([&](CheckpointManifest& m) { m.workers_per_rank = number; }));
    CHECK(is_refused([&](CheckpointManifest& m) { m.threads = number; }));
  }
  constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
  for (const std::int64_t step : {std::int64_t{-5}, std::int64_t{2}, std::int64_t{4}, kMost}) {
    CAPTURE(step);
    CHECK(is_refused([&](CheckpointManifest& m) { m.position.step = step; }));
  }
  for (const std::int64_t number : {std::int64_t{-1}, kMost}) {
    CAPTURE(number);
    CHECK(is_refused([&](CheckpointManifest& m) { m.position.epoch = number; }));
    CHECK(is_refused([&](CheckpointManifest& m) { m.position.images = number; }));
    CHECK(is_refused([&](CheckpointManifest& m) { m.evaluated_at_step = number; }));
  }
  CHECK(is_refused([](CheckpointManifest& m) { m.position.epoch = 4; }));  // more epochs than steps
  CHECK(is_refused([](CheckpointManifest& m) { m.best_top1 = 1.5; }));
  CHECK(is_refused([](CheckpointManifest& m) { m.final_top1 = -0.5; }));
  std::string text = to_text(whole);
  text.replace(text.find("\"step\": 3"), 9, "\"step\": 999999999999999999990");
  CHECK(contains(error_of([&] { parse_manifest(text); }).what(), "damaged"));
}

TEST_CASE("begin() does not wait for the files, and a wait has an end") {
  const TemporaryFolder temporary;
  const std::string folder = temporary.path().string();
  std::promise<void> may_go_on;
  CheckpointManifest manifest{.version = "test", .position = {.step = 1}};
  const auto communicator = comm::Communicator::open({});
  std::atomic<bool> stands_still = false;
  CheckpointWriter writer(*communicator, folder, 3, [&, waits = may_go_on.get_future().share()] {
    if (stands_still) waits.wait();
  });
  writer.begin(manifest, {});
  CHECK(writer.is_writing());
  CHECK(fs::exists(folder + "/step-00000001.tmp"));
  CHECK(writer.wait(1000));
  stands_still = true;
  CHECK_FALSE(writer.advance());  // the last stage
  CHECK_FALSE(writer.is_ready());
  CHECK_FALSE(writer.wait(0.01));
  may_go_on.set_value();
  CHECK(writer.wait(1000));
  CHECK(writer.advance());
  CHECK(fs::exists(folder + "/step-00000001"));
}

TEST_CASE("a checkpoint that may not be published is none, and nothing of the others is touched") {
  const TinyCheckpoints checkpoints;
  const auto communicator = comm::Communicator::open({});
  CheckpointWriter writer(*communicator, checkpoints.folder(), 1,
                          [] { throw Error(ErrorKind::failure, "the folder is another's"); });
  const Error error = error_of([&] { writer.begin({.version = "test", .position = {.step = 4}}, {}); });
  CHECK(error.scope() == ErrorScope::all_ranks);
  CHECK(contains(error.what(), "another's"));
  CHECK(checkpoint_steps(checkpoints.folder()) == std::vector<std::int64_t>{3, 2, 1});
  CHECK(unfinished_checkpoints(checkpoints.folder()).empty());
}

TEST_CASE("a checkpoint's name sorts by its step") {
  CHECK(checkpoint_name(7) == "step-00000007");
  CHECK(checkpoint_name(123456789) == "step-123456789");
}
