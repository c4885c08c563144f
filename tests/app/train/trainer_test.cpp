#include "app/train/trainer.h"

#include <functional>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <omp.h>

#include "app/model/safetensors.h"
#include "comm/thread_world.h"
#include "tests/support/file_helpers.h"
#include "tests/support/temporary_folder.h"

using namespace dcs3gd;
using namespace dcs3gd::app;

namespace {

/// Two epochs of four steps of two workers, with an evaluation after each; a loader thread on every rank.
constexpr const char* kRun = R"(
run: {epochs: 2, threads: 1}
model: {name: lenet5, classes: 4}
data: {format: synthetic, image_size: 16, channels: 1, synthetic: {train_images: 64, eval_images: 21},
       augment: {random_crop_padding: 2, horizontal_flip: true, mixup: 0.4}, loader: {threads: 1}}
algorithm: {batch_per_worker: 8}
optimizer: {lr: {base: 0.02, reference_batch: 8, warmup_epochs: 0}}
output: {progress: none}
)";

/// The whole run, ranks as threads, in this folder.
void train(const std::string& folder, int ranks, std::vector<std::string> overrides) {
  overrides.push_back("run.output_dir=" + folder);
  const Configuration configuration =
      parse_configuration({.file_name = "run.yaml", .text = kRun, .overrides = overrides});
  const RunFolder run_folder(configuration.run.output_dir, configuration.run.name);
  const RunFolderClaim claim(run_folder, IfUsed::refuse);
  comm::run_ranks_as_threads(ranks, configuration.comm, [&](comm::Communicator& communicator) {
    omp_set_num_threads(1);
    Trainer trainer(configuration, open_datasets(configuration, communicator), communicator, run_folder,
                    {.card = model_card(configuration), .command = "trainer_test"});
    trainer.train();
  });
}

int count(const std::string& text, const std::string& part) {
  int found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

}  // namespace

TEST_CASE("a whole run: every step and evaluation once, and the same model when it is run again") {
  for (const std::string algorithm : {"dc_s3gd", "ssgd"}) {
    CAPTURE(algorithm);
    std::vector<std::string> models;
    for (int repetition = 0; repetition < 2; ++repetition) {
      const test::TemporaryFolder folder;
      train(folder.path().string(), 2, {"algorithm.name=" + algorithm});
      const std::string metrics = test::content_of(folder / "run/metrics.jsonl");
      CHECK(count(metrics, R"("event":"step")") == 8);
      CHECK(count(metrics, R"("event":"eval")") == 2);
      CHECK(count(metrics, R"("event":"end","status":"done")") == 1);
      models.push_back(test::content_of(folder / "run/model.safetensors"));
      CHECK_FALSE(models.back().empty());
    }
    CHECK(models[0] == models[1]);
  }
}

TEST_CASE("whatever ends a run, its metrics say so") {
  const std::vector<std::function<void()>> ends = {[] { throw std::bad_alloc(); },
                                                   [] { throw std::runtime_error("of a library"); },
                                                   [] { throw Error(ErrorKind::failure, "of ours"); }};
  for (const auto& end : ends) {
    const test::TemporaryFolder folder;
    const Configuration configuration = parse_configuration(
        {.file_name = "run.yaml", .text = kRun, .overrides = {"run.output_dir=" + folder.path().string()}});
    const RunFolder run_folder(configuration.run.output_dir, configuration.run.name);
    const RunFolderClaim claim(run_folder, IfUsed::refuse);
    const auto communicator = comm::Communicator::open({});
    const auto stop_wanted = [&] { return end(), false; };
    Trainer trainer(configuration, open_datasets(configuration, *communicator), *communicator, run_folder,
                    {.card = model_card(configuration), .command = "trainer_test", .stop_wanted = stop_wanted});
    CHECK_THROWS(trainer.train());
    CHECK(count(test::content_of(run_folder.metrics()), R"("event":"end","status":"failed","exit_code":1)") == 1);
    CHECK(read_status(run_folder.summary()) == "failed");
  }
}

TEST_CASE("workers in one process or as ranks: the same run") {
  const auto final_line = [](int ranks, int workers_per_rank) {
    const test::TemporaryFolder folder;
    train(folder.path().string(), ranks, {"algorithm.workers_per_rank=" + std::to_string(workers_per_rank)});
    const std::string metrics = test::content_of(folder / "run/metrics.jsonl");
    const std::size_t begin = metrics.rfind(R"({"event":"eval")");
    return metrics.substr(begin, metrics.find(R"("loss")", begin) - begin);
  };
  CHECK(final_line(2, 1) == final_line(1, 2));  // top-1 and top-5 of 21 images: no rounding shows
}
