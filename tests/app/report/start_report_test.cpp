#include "app/report/start_report.h"

#include "tests/support/file_helpers.h"

using namespace dcs3gd;
using namespace dcs3gd::app;
using dcs3gd::test::contains;

TEST_CASE("what makes no sense of steps and learning rates is told") {
  Configuration configuration;
  configuration.run.epochs = 2;
  RunPlan plan{.training_images = 144, .steps_per_epoch = 1, .steps = 2};
  std::vector<std::string> warnings = plan_warnings(configuration, plan);
  REQUIRE(warnings.size() == 2);
  CHECK(contains(warnings[0],
                 "the warm-up takes 5 of 2 epochs: the learning rate never gets to its peak; set "
                 "optimizer.lr.warmup_epochs: 0.2"));
  CHECK(contains(warnings[1], "1 step an epoch of 144 training images"));

  configuration.run.epochs = 30;
  plan = {.training_images = 144, .steps_per_epoch = 9, .steps = 270};
  CHECK(plan_warnings(configuration, plan).empty());
  CHECK(plan_warnings(configuration, {}).empty());  // the data are not here
  configuration.run.max_steps = plan.steps = 20;    // a short trial of a long run
  CHECK(plan_warnings(configuration, plan).empty());
}
