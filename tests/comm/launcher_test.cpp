#include "comm/launcher.h"

#include <map>

#include <doctest/doctest.h>

namespace dcs3gd::comm {
namespace {

std::optional<Launch> find_in(const std::map<std::string, std::string>& variables) {
  return find_launch([&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

TEST_CASE("by hand: no launcher") {
  CHECK_FALSE(find_in({}));
  // What sbatch sets for the batch script itself.
  CHECK_FALSE(find_in({{"SLURM_NTASKS", "4"}, {"SLURM_PROCID", "0"}}));
}

TEST_CASE("launchers and their world sizes") {
  CHECK(find_in({{"OMPI_COMM_WORLD_SIZE", "4"}})->ranks == 4);
  CHECK(find_in({{"PMI_SIZE", "3"}})->ranks == 3);
  CHECK(find_in({{"SLURM_STEP_NUM_TASKS", "8"}})->ranks == 8);
  CHECK(find_in({{"SLURM_STEP_NUM_TASKS", "1"}, {"OMPI_COMM_WORLD_SIZE", "2"}})->ranks == 2);
  CHECK(find_in({{"OMPI_COMM_WORLD_SIZE", "2"}})->variable == "OMPI_COMM_WORLD_SIZE");
}

TEST_CASE("a launcher that does not say how many") {
  const std::optional<Launch> launch = find_in({{"PMIX_RANK", "0"}});
  REQUIRE(launch);
  CHECK_FALSE(launch->ranks);
  CHECK_FALSE(find_in({{"PMI_SIZE", "many"}}));
}

}  // namespace
}  // namespace dcs3gd::comm
