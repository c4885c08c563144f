#include "app/record/metrics.h"

#include <cmath>
#include <filesystem>
#include <limits>
#include <string>

#include <doctest/doctest.h>

#include "core/error.h"
#include "core/log.h"
#include "tests/support/file_helpers.h"
#include "tests/support/temporary_folder.h"

using namespace dcs3gd;
using namespace dcs3gd::app;
using dcs3gd::test::contains;
using dcs3gd::test::TemporaryFolder;

namespace {

StepEvent some_step() {
  return {.step = 12,
          .epoch = 1,
          .loss = 2.302585092994046,
          .lr = 0.1,
          .grad_norm = 1.5,
          .lambda = 0.2,
          .distance_norm = 1e-7,
          .staleness_price = 0.01,
          .staleness_sharpness = 0.5,
          .images_per_s = 1234.5,
          .step_ms = 103.25,
          .compute_ms = 100,
          .all_reduce_ms = 50.5,
          .wait_ms = 0,
          .overlap = 1,
          .data_wait_ms = 0.5,
          .bad_images = 3};
}

}  // namespace

TEST_CASE("events are lines of JSON with the documented keys in the documented order") {
  StartEvent start;
  start.version = "0.1.0";
  start.command = "dcs3gd-train --config a.yaml";
  start.config_hash = "00ff";
  start.hosts = {"node1", "node2"};
  start.ranks = 2;
  start.workers = 4;
  start.threads = 8;
  start.isa = "avx512_core";
  start.parameters = 25'557'032;
  start.fresh_share = 0.75;
  start.all_reduce_bytes = 102'228'128;
  CHECK(to_json_line(start) ==
        R"({"event":"start","version":"0.1.0","command":"dcs3gd-train --config a.yaml","config_hash":"00ff",)"
        R"("hosts":["node1","node2"],"ranks":2,"workers":4,"threads":8,"isa":"avx512_core",)"
        R"("parameters":25557032,"fresh_share":0.75,"all_reduce_bytes":102228128,"resumed_from":null})");
  start.resumed_from = 400;
  CHECK(contains(to_json_line(start), R"("resumed_from":400})"));

  CHECK(
      to_json_line(some_step()) ==
      R"({"event":"step","step":12,"epoch":1,"loss":2.302585092994046,"lr":0.1,"grad_norm":1.5,"lambda":0.2,)"
      R"("distance_norm":1e-07,"staleness_price":0.01,"staleness_sharpness":0.5,"images_per_s":1234.5,"step_ms":103.25,"compute_ms":100.0,"all_reduce_ms":50.5,)"
      R"("wait_ms":0.0,"overlap":1.0,"data_wait_ms":0.5,"bad_images":3})");

  CHECK(to_json_line(EvalEvent{.step = 100, .epoch = 2, .top1 = 0.5, .top5 = 0.75, .loss = 1.25, .images = 10'000}) ==
        R"({"event":"eval","step":100,"epoch":2,"top1":0.5,"top5":0.75,"loss":1.25,"images":10000})");

  CHECK(to_json_line(CheckpointEvent{
            .step = 100, .epoch = 2, .path = "checkpoints/step-00000100", .wall_s = 0.5, .stall_s = 0.25}) ==
        R"({"event":"checkpoint","step":100,"epoch":2,"path":"checkpoints/step-00000100","wall_s":0.5,)"
        R"("stall_s":0.25})");

  CHECK(to_json_line(EndEvent{.status = "done",
                              .exit_code = 0,
                              .best_top1 = 0.75,
                              .final_top1 = 0.5,
                              .wall_s = 60.5,
                              .images_per_s = 1000,
                              .wall_images_per_s = 800}) ==
        R"({"event":"end","status":"done","exit_code":0,"best_top1":0.75,"final_top1":0.5,"wall_s":60.5,)"
        R"("images_per_s":1000.0,"wall_images_per_s":800.0})");
}

TEST_CASE("numbers read back as they were; NaN, Inf and what is not known are null") {
  StepEvent step = some_step();
  step.loss = 0.1 + 0.2;
  const std::string line = to_json_line(step);
  const std::size_t at = line.find("\"loss\":") + 7;
  CHECK(std::stod(line.substr(at)) == step.loss);

  step.loss = std::numeric_limits<double>::quiet_NaN();
  step.grad_norm = std::numeric_limits<double>::infinity();
  CHECK(contains(to_json_line(step), R"("loss":null,"lr":0.1,"grad_norm":null,)"));
  CHECK(contains(to_json_line(EndEvent{}), R"("best_top1":null,"final_top1":null,)"));
}

TEST_CASE("strings cannot break a line: quotes, control characters, bytes that are no UTF-8") {
  StartEvent start;
  start.command = "a\n\"b\"\\\x01 é \xff";
  const std::string line = to_json_line(start);
  CHECK(contains(line, R"("command":"a\n\"b\"\\\u0001 é )"
                       "\xEF\xBF\xBD\""));
  CHECK_FALSE(contains(line, "\n"));
}

TEST_CASE("the writer appends whole lines, at once") {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.jsonl";
  test::write_file(path, "{}\n");
  MetricsWriter metrics(path);
  metrics.write(some_step());
  CHECK(test::content_of(path) == "{}\n" + to_json_line(some_step()) + "\n");
  metrics.write(EndEvent{});
  CHECK(test::content_of(path) == "{}\n" + to_json_line(some_step()) + "\n" + to_json_line(EndEvent{}) + "\n");
  CHECK(test::error_of([&] { MetricsWriter(folder / "missing/metrics.jsonl"); }).kind() == ErrorKind::failure);
}

TEST_CASE("a file that is removed under the writer is begun anew, as soon as its folder is there") {
  const TemporaryFolder folder;
  const std::string run = folder / "run";
  const std::string path = run + "/metrics.jsonl";
  std::filesystem::create_directory(run);
  MetricsWriter metrics(path);
  metrics.write(some_step());
  std::filesystem::remove_all(run);
  metrics.write(some_step());
  CHECK_FALSE(std::filesystem::exists(path));
  std::filesystem::create_directory(run);
  metrics.write(EndEvent{});
  metrics.write(EndEvent{});
  CHECK(test::content_of(path) == to_json_line(EndEvent{}) + "\n" + to_json_line(EndEvent{}) + "\n");
}

TEST_CASE("a full disk costs lines and one warning, not the run") {
  const TemporaryFolder folder;
  const std::string log_path = folder / "log.txt";
  log::open({.file = log_path});
  MetricsWriter metrics("/dev/full");
  for (int i = 0; i < 3; ++i) metrics.write(some_step());
  log::close();
  const std::string text = test::content_of(log_path);
  CHECK_MESSAGE(contains(text, "cannot write /dev/full: No space left on device"), text);
  CHECK(text.find("cannot write") == text.rfind("cannot write"));
}

TEST_CASE("a disk that fills up within a line leaves no part of it; lines come back with the space") {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.jsonl";
  MetricsWriter metrics(path);
  metrics.write(some_step());
  const std::string first = test::content_of(path);
  {
    const test::FileSizeLimit limit(first.size() + 10);
    metrics.write(EvalEvent{});
    CHECK(test::content_of(path) == first);
  }
  metrics.write(EndEvent{});
  CHECK(test::content_of(path) == first + to_json_line(EndEvent{}) + "\n");
}

TEST_CASE("the summary is the end event") {
  const TemporaryFolder folder;
  const std::string path = folder / "summary.json";
  const EndEvent end{.status = "diverged", .exit_code = 3};
  write_summary(path, end);
  CHECK(test::content_of(path) == to_json_line(end) + "\n");
  CHECK(test::error_of([&] { write_summary(folder / "missing/summary.json", end); }).kind() == ErrorKind::failure);
}

TEST_CASE("rewinding takes back the lines of later steps and a line cut off; the rest stays as it is") {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.jsonl";
  rewind_metrics(path, 3);  // nothing there is nothing to do
  CHECK_FALSE(std::filesystem::exists(path));
  const std::string start = R"({"event":"start","version":"0.1.0"})"
                            "\n";
  const auto step = [](int number) { return R"({"event":"step","step":)" + std::to_string(number) + "}\n"; };
  const std::string eval = R"({"event":"eval","step":3})"
                           "\n";
  const std::string whole = start + step(2) + step(3) + eval;
  test::write_file(path, whole + step(4) + step(5) + R"({"event":"step","step":1)");
  rewind_metrics(path, 3);
  CHECK(test::content_of(path) == whole);
  test::write_file(path, whole + R"({"event":"step","step":1})");  // without its end
  rewind_metrics(path, 3);
  CHECK(test::content_of(path) == whole);
  for (const std::string damaged : {R"({"event":"step","step":"3"})", R"({"event":"step","step":null})", "[3]", "3",
                                    R"({"event":"step","step":1e300})"}) {
    test::write_file(path, whole + damaged + "\n" + step(4));
    rewind_metrics(path, 3);
    CHECK(test::content_of(path) == whole);
  }
  const std::string odd = R"({"event":7,"step":3})"
                          "\n";
  test::write_file(path, whole + odd + step(4));
  rewind_metrics(path, 3);
  CHECK(test::content_of(path) == whole + odd);
}

TEST_CASE("a long file is rewound from its end, whatever order checkpoints are told in") {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.jsonl";
  const auto line = [](const std::string& event, int number) {
    return R"({"event":")" + event + R"(","step":)" + std::to_string(number) + R"(,"text":")" +
           std::string(static_cast<std::size_t>(number % 97) * 50, 'x') + "\"}\n";
  };
  for (const int last : {1, 40, 41, 97, 2000}) {
    CAPTURE(last);
    std::string kept = R"({"event":"start"})"
                       "\n";
    for (int number = 1; number <= last; ++number) kept += line("step", number);
    std::string dropped;
    for (int number = last + 1; number < last + 300; ++number) dropped += line("step", number);
    const std::string late = line("checkpoint", last);
    test::write_file(path, kept + dropped + late + line("step", last + 300) + std::string(1000, '\0'));
    rewind_metrics(path, last);
    CHECK((test::content_of(path) == kept + late));
    rewind_metrics(path, last);
    CHECK((test::content_of(path) == kept + late));
  }
}

TEST_CASE("the status of a run is that of its summary") {
  const TemporaryFolder folder;
  CHECK(read_status(folder / "summary.json").empty());
  write_summary(folder / "summary.json", {.status = "stopped", .exit_code = 75});
  CHECK(read_status(folder / "summary.json") == "stopped");
  for (const std::string damaged : {"{", "", "[]", R"({"status":0})", R"({"status":null})"}) {
    test::write_file(folder / "summary.json", damaged);
    CHECK(read_status(folder / "summary.json").empty());
  }
}
