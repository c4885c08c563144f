#include "app/report/preflight.h"

#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include <sys/resource.h>
#include <unistd.h>

#include "app/job/agreement.h"
#include "app/job/process_memory.h"
#include "tests/support/file_helpers.h"
#include "tests/support/temporary_folder.h"

using namespace dcs3gd;
using namespace dcs3gd::app;
using dcs3gd::test::contains;

namespace {

constexpr std::size_t kGigabyte = 1'000'000'000;

RankNeed need(const std::string& host, std::size_t gigabytes, std::size_t available_gigabytes) {
  return {host, gigabytes * kGigabyte, available_gigabytes * kGigabyte};
}

std::string value_of(const Preflight& result, const std::string& name) {
  for (const ReportRow& row : result.rows) {
    if (row.name == name) return row.value;
  }
  return "";
}

}  // namespace

TEST_CASE("a run that fits is no reason to warn, and what was not asked for has no row") {
  const Preflight result = preflight(Configuration(), {need("a", 3, 4)}, {.compute_ms = 10, .free_disk_bytes = 1});
  CHECK(result.warnings.empty());
  CHECK(value_of(result, "memory needed") == "3.0 GB of 4.0 GB free on a (1 rank)");
  CHECK(value_of(result, "all-reduce time").empty());
  CHECK(value_of(result, "time limit").empty());
  CHECK(value_of(result, "training time").empty());
  CHECK(contains(
      value_of(preflight(Configuration(), {need("a", 3, 4)}, {.compute_ms = 100, .steps = 36000}), "training time"),
      "about 1:00:00 for 36000 steps of 100.0 ms"));
}

TEST_CASE("the ranks of a host share its memory") {
  const Preflight result = preflight(
      Configuration(), {need("a", 3, 5), need("b", 3, 7), need("b", 3, 8), need("a", 3, 5)}, {.compute_ms = 10});
  REQUIRE(result.rows.size() >= 2);
  CHECK(result.rows[0].value == "6.0 GB of 5.0 GB free on a (2 ranks)");
  CHECK(result.rows[1].value == "6.0 GB of 7.0 GB free on b (2 ranks)");
  REQUIRE(result.warnings.size() == 1);
  CHECK(contains(result.warnings[0], "the ranks on a need 6.0 GB"));
  CHECK(contains(result.warnings[0], "algorithm.batch_per_worker"));
}

TEST_CASE("ten thousand hosts are no ten thousand lines") {
  std::vector<RankNeed> ranks;
  ranks.reserve(10'000);
  for (int host = 0; host < 10'000; ++host) ranks.push_back(need("host" + std::to_string(host), 5, 4));
  const Preflight result = preflight(Configuration(), ranks, {.compute_ms = 10});
  CHECK(result.rows.size() < 20);
  CHECK(result.warnings.size() == 8);
  CHECK(result.warnings.back() == "and 9993 more like these");
}

TEST_CASE("an all-reduce that computing cannot hide") {
  Configuration configuration;
  const PreflightFacts facts{.compute_ms = 100, .all_reduce_ms = 150, .all_reduce_bytes = 4'000'000};
  const Preflight result = preflight(configuration, {need("a", 1, 9)}, facts);
  CHECK(value_of(result, "all-reduce time") == "150.0 ms for 4.0 MB; a step computes for 100.0 ms");
  REQUIRE(result.warnings.size() == 1);
  CHECK(contains(result.warnings[0], "comm.wire: bf16"));
  configuration.comm.wire = comm::Wire::bf16;
  CHECK_FALSE(contains(preflight(configuration, {need("a", 1, 9)}, facts).warnings[0], "comm.wire"));
}

TEST_CASE("checkpoints that are kept, the one being written and two models against the disk") {
  Configuration configuration;
  configuration.checkpoint.keep = 3;
  PreflightFacts facts{.checkpoint_bytes = 400'000'000, .model_bytes = 100'000'000, .free_disk_bytes = 1'900'000'000};
  const Preflight result = preflight(configuration, {need("a", 1, 9)}, facts);
  CHECK(value_of(result, "disk needed") == "1.8 GB of 1.9 GB free at runs (checkpoints: 4 x 400.0 MB)");
  CHECK(result.warnings.empty());
  facts.free_disk_bytes = 1'700'000'000;
  REQUIRE(preflight(configuration, {need("a", 1, 9)}, facts).warnings.size() == 1);
  CHECK(contains(preflight(configuration, {need("a", 1, 9)}, facts).warnings[0],
                 "needs 1.8 GB of disk and 1.7 GB are free at runs: lower checkpoint.keep"));
  configuration.checkpoint.every_epochs.reset();
  CHECK(contains(value_of(preflight(configuration, {need("a", 1, 9)}, facts), "disk needed"), "checkpoints: 3 x"));
}

TEST_CASE("what fits in the time limit: an all-reduce that hides, and one that is longer than a step") {
  Configuration configuration;
  configuration.run.epochs = 30;
  PreflightFacts facts{.compute_ms = 100, .all_reduce_ms = 50, .time_limit_s = 3600, .steps_per_epoch = 9000};
  CHECK(value_of(preflight(configuration, {need("a", 1, 9)}, facts), "time limit") ==
        "1:00:00: about 36000 steps of 100.0 ms, 4.0 of 30 epochs");
  configuration.run.epochs = 4;
  CHECK(contains(value_of(preflight(configuration, {need("a", 1, 9)}, facts), "time limit"), "the whole run"));
  facts.all_reduce_ms = 150;
  facts.steps_per_epoch = 0;
  CHECK(value_of(preflight(configuration, {need("a", 1, 9)}, facts), "time limit") ==
        "1:00:00: about 24000 steps of 150.0 ms");
  facts.time_limit_s = -5;
  const Preflight over = preflight(configuration, {need("a", 1, 9)}, facts);
  REQUIRE(over.warnings.size() == 1);
  CHECK(contains(over.warnings[0], "not a single step"));
}

TEST_CASE("free disk of a folder that is not there yet; memory of this process and its host") {
  const test::TemporaryFolder folder;
  const auto here = free_disk_bytes(folder.path().string());
  const auto below = free_disk_bytes((folder / "not/yet/there"));
  REQUIRE(here.has_value());
  REQUIRE(below.has_value());
  CHECK(*here > 0);
  CHECK(*below > *here / 2);  // others write meanwhile
  CHECK(resident_bytes() > 1'000'000);
  CHECK(available_bytes() > 1'000'000);
  CHECK(available_bytes() < std::size_t{1} << 50);
}

TEST_CASE("what a process may take is at most what its own limits leave") {
  constexpr std::size_t kLeft = 20'000'000;
  std::vector<std::size_t> pages;
  std::ifstream statm("/proc/self/statm");
  for (std::size_t count = 0; statm >> count;) pages.push_back(count);
  REQUIRE(pages.size() > 5);
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  for (const auto& [resource, used] :
       {std::pair(RLIMIT_AS, page * pages[0]), std::pair(RLIMIT_DATA, page * pages[5])}) {
    rlimit saved{};
    REQUIRE(getrlimit(resource, &saved) == 0);
    CHECK_NOTHROW(expect_room_for_libraries());
    const rlimit limit{used + kLeft, saved.rlim_max};
    REQUIRE(setrlimit(resource, &limit) == 0);
    const std::size_t left = available_bytes();
    const auto error = attempt(expect_room_for_libraries);
    REQUIRE(setrlimit(resource, &saved) == 0);
    CHECK(left <= kLeft);
    REQUIRE(error.has_value());
    CHECK(error->kind() == ErrorKind::input);
  }
}
