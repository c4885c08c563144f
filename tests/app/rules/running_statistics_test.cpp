#include "app/rules/running_statistics.h"

#include <memory>
#include <vector>

#include <doctest/doctest.h>

#include "comm/thread_world.h"

using namespace dcs3gd;
using namespace dcs3gd::app;
using doctest::Approx;

namespace {

std::shared_ptr<const ParameterLayout> layout_of_two() {
  return std::make_shared<const ParameterLayout>(
      std::vector<ParameterSlice>{{.name = "bn.running_mean", .shape = {1}, .kind = ParameterKind::statistics},
                                  {.name = "bn.running_var", .shape = {1}, .kind = ParameterKind::statistics}});
}

void add_batch(RunningStatistics& statistics, float mean, float variance) {
  ParameterArena batch(layout_of_two());
  batch.values()[0] = mean;
  batch.values()[1] = variance;
  statistics.add(batch);
}

}  // namespace

TEST_CASE("a step moves the statistics once, a tenth of the way to the workers' mean") {
  RunningStatistics statistics(layout_of_two());
  statistics.local().values()[1] = 1;
  add_batch(statistics, 1, 2);
  add_batch(statistics, 3, 6);
  statistics.advance();
  CHECK(statistics.local().values()[0] == Approx(0.2));
  CHECK(statistics.local().values()[1] == Approx(0.9 + 0.4));

  add_batch(statistics, 10, 0);  // nothing of the step before is left
  statistics.advance();
  CHECK(statistics.local().values()[0] == Approx(0.18 + 1.0));
  CHECK(statistics.local().values()[1] == Approx(0.9 * 1.3));
}

TEST_CASE("the average is the mean of the ranks' values, never rounded to the wire, and leaves them alone") {
  constexpr float kFine = 1.0F + 0x1p-20F;  // not a bf16 number
  float average[3][2] = {};
  float local[3] = {};
  comm::run_ranks_as_threads(3, {.wire = comm::Wire::bf16}, [&](comm::Communicator& communicator) {
    const int rank = communicator.rank();
    RunningStatistics statistics(layout_of_two());
    statistics.local().values()[0] = static_cast<float>(3 * rank);
    statistics.local().values()[1] = kFine;
    ParameterArena mean(layout_of_two());
    statistics.average(communicator, mean);
    average[rank][0] = mean.values()[0];
    average[rank][1] = mean.values()[1];
    local[rank] = statistics.local().values()[0];
  });
  for (const int rank : {0, 1, 2}) {
    CHECK(average[rank][0] == Approx(3));
    CHECK(average[rank][1] == Approx(kFine).epsilon(1e-7));
    CHECK(average[rank][0] == average[0][0]);
    CHECK(average[rank][1] == average[0][1]);
    CHECK(local[rank] == static_cast<float>(3 * rank));
  }
}
