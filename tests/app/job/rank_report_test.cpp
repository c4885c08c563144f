#include "app/job/rank_report.h"

#include "tests/support/file_helpers.h"

using namespace dcs3gd;
using app::RankUse;
using test::contains;

namespace {

std::vector<int> cores(int first, int last) {
  std::vector<int> numbers;
  for (int core = first; core <= last; ++core) numbers.push_back(core);
  return numbers;
}

std::vector<std::string> warnings(const std::vector<RankUse>& ranks, bool by_mpirun = false) {
  return app::placement_warnings(ranks, "dcs3gd-train --config run.yaml", by_mpirun);
}

}  // namespace

TEST_CASE("numbers are written as ranges") {
  CHECK(app::format_ranges({}).empty());
  CHECK(app::format_ranges({3}) == "3");
  CHECK(app::format_ranges({0, 1, 2, 3, 8, 10, 11}) == "0-3,8,10-11");
}

TEST_CASE("neighbouring ranks with the same place and threads share a line") {
  const RankUse shared{{"a", cores(0, 7)}, 4, 8};
  const RankUse alone{{"b", {2}}, 1, 8};
  CHECK(app::describe_ranks({shared, shared, alone}) ==
        std::vector<std::string>{"ranks 0-1 on a: 4 threads each, cores 0-7 shared", "rank 2 on b: 1 thread, core 2"});
}

TEST_CASE("ranks that fit into their cores are no reason to warn") {
  CHECK(warnings({{{"a", cores(0, 7)}, 8, 8}}).empty());
  CHECK(warnings({{{"a", cores(0, 7)}, 4, 8}, {{"a", cores(0, 7)}, 4, 8}}).empty());
  CHECK(warnings({{{"a", cores(0, 3)}, 4, 8}, {{"a", cores(4, 7)}, 4, 8}}).empty());
  CHECK(warnings({{{"a", cores(0, 3)}, 4, 4}, {{"b", cores(0, 3)}, 4, 4}}).empty());
}

TEST_CASE("threads that share a core's arithmetic are told of, and the remedy counts cores") {
  const RankUse half{{"a", cores(0, 7), 4}, 4, 8};
  CHECK(warnings({half}).empty());
  const RankUse all{{"a", cores(0, 7), 4}, 8, 8};
  const std::vector<std::string> lines = warnings({all});
  REQUIRE(lines.size() == 2);
  CHECK(lines[0] == "rank 0 on a: 8 threads on 4 cores, whose hyper-threads share the arithmetic");
  CHECK(contains(lines[1], "run.threads to 4"));
  const RankUse crowded{{"a", cores(0, 7), 4}, 6, 8};
  const std::vector<std::string> many = warnings({crowded, crowded});
  REQUIRE(many.size() == 2);
  CHECK(contains(many[1], "--set run.threads=2"));
}

TEST_CASE("a rank that computes on two sockets is told how to start one on each") {
  CHECK(warnings({{{"a", cores(0, 7), 8, 2}, 4, 8}}).empty());  // has room on one of them
  const std::vector<std::string> lines = warnings({{{"a", cores(0, 7), 8, 2}, 8, 8}});
  REQUIRE(lines.size() == 1);
  CHECK(contains(lines[0], "rank 0 on a: 8 threads on 2 sockets"));
  CHECK(contains(lines[0], "mpirun -n 2 --map-by ppr:1:socket --bind-to socket dcs3gd-train --config run.yaml"));
}

TEST_CASE("more threads than a control group grants the time for are told of") {
  CHECK(warnings({{{"a", cores(0, 7)}, 2, 8, 2.5}}).empty());
  const std::vector<std::string> lines = warnings({{{"a", cores(0, 7)}, 2, 8, 2.5}, {{"a", cores(0, 7)}, 2, 8, 2.5}});
  REQUIRE(lines.size() == 1);
  CHECK(contains(lines[0], "ranks 0-1 on a: 4 threads, but the control group"));
  CHECK(contains(lines[0], "2.5 cores"));
}

TEST_CASE("a process that was confined on purpose is no reason to warn, one that mpirun has bound is") {
  CHECK(warnings({{{"a", cores(0, 1)}, 2, 64}}).empty());
  const std::vector<std::string> lines = warnings({{{"a", {0}}, 1, 64}}, true);
  REQUIRE(lines.size() == 2);
  CHECK(lines[0] == "rank 0 on a: bound to core 0, but the host has 64 cores");
  CHECK(contains(lines[1], "mpirun -n 1 --bind-to none dcs3gd-train --config run.yaml"));
}

TEST_CASE("Open MPI's one core a rank is told with the corrected line") {
  const std::vector<std::string> lines = warnings({{{"a", {0}}, 1, 8}, {{"a", {1}}, 1, 8}});
  REQUIRE(lines.size() == 2);
  CHECK(lines[0] == "ranks 0-1 on a: bound to cores 0-1, but the host has 8 cores");
  CHECK(contains(lines[1], "mpirun -n 2 --bind-to none dcs3gd-train --config run.yaml --set run.threads=4"));
}

TEST_CASE("more threads than cores are told per group of ranks that share them") {
  const RankUse crowded{{"a", cores(0, 3)}, 4, 4};
  const RankUse well{{"b", cores(0, 3)}, 2, 4};
  const std::vector<std::string> lines = warnings({crowded, crowded, well, well});
  REQUIRE(lines.size() == 2);
  CHECK(lines[0] == "ranks 0-1 on a: 8 threads on 4 cores (0-3)");
  CHECK(contains(lines[1], "--set run.threads=2"));
}

TEST_CASE("what helps a single process and a crowded host is said") {
  const std::vector<std::string> single = warnings({{{"a", cores(0, 1)}, 4, 2}});
  REQUIRE(single.size() == 2);
  CHECK(contains(single[1], "run.threads to 2"));

  const RankUse one_core{{"a", cores(0, 1)}, 1, 2};
  const std::vector<std::string> many = warnings({one_core, one_core, one_core});
  REQUIRE(many.size() == 2);
  CHECK(contains(many[0], "3 threads on 2 cores"));
  CHECK(contains(many[1], "more ranks than cores"));
}
