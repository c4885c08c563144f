#include "app/job/threads.h"

#include <optional>
#include <vector>

#include <doctest/doctest.h>

using namespace dcs3gd;
using namespace dcs3gd::app;

namespace {

const comm::RankPlace kEight{"ash", {0, 1, 2, 3, 4, 5, 6, 7}};

ThreadPlan plan(std::optional<int> configured, const char* omp_num_threads,
                const std::vector<comm::RankPlace>& places = {kEight}, int rank = 0) {
  return plan_threads(configured, omp_num_threads, places, rank);
}

}  // namespace

TEST_CASE("auto takes all cores of the rank") {
  CHECK(plan({}, nullptr).compute == 8);
  CHECK(plan({}, nullptr).spare == 0);
}

TEST_CASE("auto takes one hyper-thread of each core, and the others are to spare") {
  const comm::RankPlace four{"ash", kEight.cores, 4};
  CHECK(plan({}, nullptr, {four}).compute == 4);
  CHECK(plan({}, nullptr, {four}).spare == 4);
  CHECK(plan({}, nullptr, {four, four}, 1).compute == 2);
  CHECK(plan(8, nullptr, {four}).compute == 8);
  CHECK(plan_threads({}, nullptr, {four}, 0, {.cores = 5}).compute == 4);
  CHECK(plan_threads({}, nullptr, {four}, 0, {.cores = 5}).spare == 1);
}

TEST_CASE("auto shares the cores with the ranks that have the same") {
  CHECK(plan({}, nullptr, {kEight, kEight}).compute == 4);
  CHECK(plan({}, nullptr, {kEight, kEight, kEight}, 2).compute == 2);
  CHECK(plan({}, nullptr, {kEight, {"beech", kEight.cores}}).compute == 8);
  CHECK(plan({}, nullptr, {{"ash", {0, 1}}, {"ash", {2, 3, 4}}}, 1).compute == 3);
}

TEST_CASE("more ranks than cores get one thread each") {
  const comm::RankPlace one{"ash", {0}};
  CHECK(plan({}, nullptr, {one, one, one}, 1).compute == 1);
  CHECK(plan({}, nullptr, {one, one, one}, 1).spare == 0);
}

TEST_CASE("auto keeps to what a control group and OpenMP grant") {
  CHECK(plan_threads({}, nullptr, {kEight}, 0, {.cores = 0.5}).compute == 1);
  CHECK(plan_threads({}, nullptr, {kEight}, 0, {.cores = 3.9}).compute == 3);
  CHECK(plan_threads({}, nullptr, {kEight, kEight}, 0, {.cores = 4}).compute == 2);
  CHECK(plan_threads({}, nullptr, {kEight}, 0, {.team = 3}).compute == 3);
  CHECK(plan_threads(6, nullptr, {kEight}, 0, {.cores = 1, .team = 3}).compute == 6);
}

TEST_CASE("OMP_NUM_THREADS comes before auto, the configuration before both") {
  CHECK(plan({}, "3").compute == 3);
  CHECK(plan({}, "3").spare == 5);
  CHECK(plan(2, "3").compute == 2);
  CHECK(plan(2, "3").spare == 6);
  CHECK(plan(16, nullptr).compute == 16);
  CHECK(plan(16, nullptr).spare == 0);
}

TEST_CASE("OMP_NUM_THREADS may be a list, and what is no number is as if it were not set") {
  CHECK(plan({}, "4,2").compute == 4);
  CHECK(plan({}, " 4").compute == 4);
  for (const char* nonsense : {"", "auto", "0", "-2"}) {
    CAPTURE(nonsense);
    CHECK(plan({}, nonsense).compute == 8);
  }
}
