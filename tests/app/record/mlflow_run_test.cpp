#include "app/record/mlflow_run.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/support/file_helpers.h"
#include "tests/support/temporary_folder.h"

using namespace dcs3gd;
using namespace dcs3gd::app;
using dcs3gd::test::TemporaryFolder;

TEST_CASE("MLflow's store that fails in mid-run costs numbers, not the run") {
  const TemporaryFolder folder;
  const RunFolder run(folder / "", "run");
  std::filesystem::create_directory(run.path());
  MlflowRun mlflow(folder / "store", run, {{"run.seed", "1"}}, 0);
  mlflow.write(StartEvent{});
  std::filesystem::remove_all(folder / "store");
  std::ofstream(folder / "store") << "a file";
  CHECK_NOTHROW(mlflow.write(EvalEvent{.step = 1, .top1 = 0.5}));
  CHECK_NOTHROW(mlflow.write(EndEvent{}));
  CHECK(test::error_of([&] { MlflowRun(folder / "store", run, {}, 0); }).kind() == ErrorKind::failure);
}

TEST_CASE("what a crash left in MLflow's store is taken back or removed") {
  const TemporaryFolder folder;
  const RunFolder run(folder / "", "run");
  std::filesystem::create_directory(run.path());
  const auto start = [&](std::int64_t step) { return MlflowRun(folder / "store", run, {}, step); };
  MlflowRun first = start(0);
  for (const std::int64_t step : {1, 2, 3}) first.write(EvalEvent{.step = step, .top1 = 0.5});
  std::string id;
  std::ifstream(run.mlflow()) >> id;
  const std::string top1 = folder / ("store/0/" + id + "/metrics/eval/top1");
  std::ofstream(top1, std::ios::app) << "1 0.5";
  std::ofstream(top1 + ".1a2b3c4d.tmp") << "half";
  MlflowRun second = start(2);
  second.write(EvalEvent{.step = 3, .top1 = 0.75});
  const std::string text = test::content_of(top1);
  CHECK(std::ranges::count(text, '\n') == 3);
  CHECK(text.ends_with(" 0.75 3\n"));
  CHECK_FALSE(std::filesystem::exists(top1 + ".1a2b3c4d.tmp"));
  start(0);
  CHECK_FALSE(std::filesystem::exists(top1));  // MLflow takes an empty file for damage
}

TEST_CASE("what MLflow reads is UTF-8, whatever the command line holds") {
  const TemporaryFolder folder;
  const RunFolder run(folder / "", "run");
  std::filesystem::create_directory(run.path());
  MlflowRun mlflow(folder / "store", run, {}, 0);
  mlflow.write(StartEvent{.command = "--config caf\xe9.yaml"});
  std::string id;
  std::ifstream(run.mlflow()) >> id;
  CHECK(test::content_of(folder / ("store/0/" + id + "/tags/mlflow.source.name")) == "--config caf\xef\xbf\xbd.yaml");
}
