#include "comm/placement.h"

#include <algorithm>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "core/format.h"
#include "tests/support/system_files.h"

namespace dcs3gd::comm {
namespace {

TEST_CASE("the own place has a host and at least one core") {
  const RankPlace place = find_own_place();
  CHECK_FALSE(place.host.empty());
  CHECK_FALSE(place.cores.empty());
}

TEST_CASE("hyper-threads of one core count once, and sockets are counted") {
  const test::SystemFiles system;
  const std::vector<int> cores = find_own_place(system.root()).cores;
  CHECK(find_own_place(system.root()).computing_cores() == static_cast<int>(cores.size()));  // nothing is said of them
  CHECK(find_own_place(system.root()).sockets == 1);
  for (const int core : cores) {
    const std::string folder = format("sys/devices/system/cpu/cpu{}/topology/", core);
    system.write(folder + "thread_siblings_list", core < cores.back() ? format("{}", core) : "0,64");
    system.write(folder + "physical_package_id", core < cores.back() ? "0" : "1");
  }
  system.write("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0,64");
  const RankPlace place = find_own_place(system.root());
  CHECK(place.physical_cores == std::max(1, static_cast<int>(cores.size()) - (cores.front() == 0 ? 1 : 0)));
  CHECK(place.sockets == (cores.size() > 1 ? 2 : 1));
}

TEST_CASE("places travel as text") {
  for (const RankPlace& place : {RankPlace{"ash", {}}, RankPlace{"ash", {0}}, RankPlace{"ash", {0, 7, 128}, 2, 2}}) {
    CHECK(unpack_place(pack(place)) == place);
  }
}

TEST_CASE("ranks compete for cores on one host only, and only where these overlap") {
  const std::vector<RankPlace> places{
      {"ash", {0, 1, 2, 3}}, {"ash", {3, 4}}, {"beech", {0, 1, 2, 3}}, {"ash", {5}}, {"ash", {0}}};
  CHECK(ranks_on_same_cores(places, 0) == std::vector<int>{0, 1, 4});
  CHECK(ranks_on_same_cores(places, 1) == std::vector<int>{0, 1});
  CHECK(ranks_on_same_cores(places, 2) == std::vector<int>{2});
  CHECK(ranks_on_same_cores(places, 3) == std::vector<int>{3});
  const std::vector<std::vector<int>> all = ranks_on_same_cores(places);
  REQUIRE(all.size() == places.size());
  for (int rank = 0; rank < 5; ++rank) CHECK(all[static_cast<std::size_t>(rank)] == ranks_on_same_cores(places, rank));
}

TEST_CASE("a core is spare when every rank that shares it gets its compute threads and one more") {
  const RankPlace eight{"ash", {0, 1, 2, 3, 4, 5, 6, 7}};
  CHECK(find_spare_core({eight}, 0, 7) == 7);
  CHECK_FALSE(find_spare_core({eight}, 0, 8));
  CHECK(find_spare_core({eight, eight}, 0, 3) == 7);
  CHECK(find_spare_core({eight, eight}, 1, 3) == 6);
  CHECK_FALSE(find_spare_core({eight, eight}, 0, 4));
  const std::vector<RankPlace> halves{{"ash", {0, 1}}, {"ash", {2, 3}}};
  CHECK(find_spare_core(halves, 1, 1) == 3);
}

}  // namespace
}  // namespace dcs3gd::comm
