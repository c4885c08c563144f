#include <algorithm>
#include <ctime>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "app/config/configuration.h"
#include "app/config/network_reader.h"
#include "core/error.h"
#include "tests/app/config/configuration_test_support.h"
#include "tests/support/file_helpers.h"

using namespace dcs3gd::app;
using namespace dcs3gd::test;
using dcs3gd::Error;

namespace {

/// "one of lenet5, …"
std::string one_of_the_networks() {
  std::string names;
  for (const std::string& name : network_names()) names += (names.empty() ? "one of " : ", ") + name;
  return names;
}

std::string override_problem(const std::string& assignment) { return problems("{}", {assignment}); }

std::string repeated(const std::string& part, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += part;
  return text;
}

}  // namespace

TEST_CASE("unknown keys") {
  CHECK(problems("run:\n  epochs: 1\n  epocs: 2\n") == "f:3:3: run.epocs: unknown key. Did you mean run.epochs?");
  CHECK(problems("algorithm: {lambda_0: 1}") ==
        "f:1:13: algorithm.lambda_0: unknown key. Did you mean algorithm.lambda0?");
  CHECK(problems("optimzier: {lr: {base: x}}") == "f:1:1: optimzier: unknown key. Did you mean optimizer?");
  CHECK(problems("epochs: 1") == "f:1:1: epochs: unknown key. Did you mean run.epochs?");
  CHECK(problems("data: {threads: 1}") == "f:1:8: data.threads: unknown key. Did you mean data.loader.threads?");
  CHECK(problems("comm: {colour: red}") ==
        "f:1:8: comm.colour: unknown key. The keys of comm are algorithm, wire, ranks_per_host, segment_bytes, core, "
        "timeout_s");
  CHECK(problems("colour: red") ==
        "f:1:1: colour: unknown key. The sections are run, model, data, algorithm, optimizer, "
        "comm, checkpoint, output");
  CHECK(problems("optimizer.lr.base: 1") ==
        "f:1:1: optimizer.lr.base: dotted keys are for --set. Write it as nested sections");
  CHECK(override_problem("optimizer.lr.bsae=1") ==
        "--set optimizer.lr.bsae=1: optimizer.lr.bsae: unknown key. Did you mean optimizer.lr.base?");
  CHECK(override_problem("optimizer.lr.base.x=1") ==
        "--set optimizer.lr.base.x=1: optimizer.lr.base.x: unknown key. The keys of optimizer.lr are base, scaling, "
        "reference_batch, warmup_epochs, warmup_start, schedule, milestones, gamma, power, final");
}

TEST_CASE("words of other programs, and a colon that is missing") {
  CHECK(override_problem("lr=0.1") == "--set lr=0.1: lr: unknown key. Did you mean optimizer.lr.base?");
  CHECK(override_problem("optimizer.learning_rate=1") ==
        "--set optimizer.learning_rate=1: optimizer.learning_rate: unknown key. Did you mean optimizer.lr.base?");
  CHECK(problems("model: {pretrained: true}") == "f:1:9: model.pretrained: unknown key. Did you mean model.init?");
  CHECK(problems("batch_size: 3") == "f:1:1: batch_size: unknown key. Did you mean algorithm.batch_per_worker?");
  CHECK(problems("run:\n  epochs 3\n").ends_with("found epochs 3. Write epochs: 3"));
  CHECK(problems("run: epochs\n").ends_with("found epochs. Write epochs: VALUE"));
}

TEST_CASE("wrong types") {
  CHECK(problems("run: {epochs: ten}") == "f:1:7: run.epochs: must be a whole number from 1 to 1000000; found ten");
  CHECK(problems("run: {epochs: 1.5}") == "f:1:7: run.epochs: must be a whole number from 1 to 1000000; found 1.5");
  CHECK(problems("run: {epochs: 1e1}") == "f:1:7: run.epochs: must be a whole number from 1 to 1000000; found 1e1");
  CHECK(problems("run: {epochs: 0x10}") == "f:1:7: run.epochs: must be a whole number from 1 to 1000000; found 0x10");
  CHECK(problems("run: {epochs: +-1}") == "f:1:7: run.epochs: must be a whole number from 1 to 1000000; found +-1");
  CHECK(problems("run: {epochs: }") == "f:1:7: run.epochs: must be a whole number from 1 to 1000000; found null");
  CHECK(problems("run: {epochs: {a: [1, ~]}}") ==
        "f:1:7: run.epochs: must be a whole number from 1 to 1000000; found {a: [1, null]}");
  CHECK(problems("run: {epochs: \"5\"}") ==
        "f:1:7: run.epochs: must be a whole number from 1 to 1000000; found \"5\". Remove the quotes");
  CHECK(problems("run: {threads: atuo}") ==
        "f:1:7: run.threads: must be a whole number from 1 to 4096, or auto; found atuo. Did you mean auto?");
  CHECK(problems("run: {name: [a]}") == "f:1:7: run.name: must be non-empty text; found [a]");
  CHECK(problems("run: {name: \"\"}") == "f:1:7: run.name: must be non-empty text; found \"\"");
  CHECK(problems("run: {output_dir: \"a\\nb\"}") == "f:1:7: run.output_dir: must be non-empty text; found \"a?b\"");
  CHECK(problems("data: {shuffle: no}") == "f:1:8: data.shuffle: must be true or false; found no. Write false");
  CHECK(problems("data: {shuffle: On}") == "f:1:8: data.shuffle: must be true or false; found On. Write true");
  CHECK(problems("data: {shuffle: True}") ==
        "f:1:8: data.shuffle: must be true or false; found True. Did you mean true?");
  CHECK(problems("data: {shuffle: 'true'}") ==
        "f:1:8: data.shuffle: must be true or false; found \"true\". Remove the quotes");
  CHECK(problems("data: {shuffle: 1}") == "f:1:8: data.shuffle: must be true or false; found 1");
  CHECK(problems("data: {train: []}") == "f:1:8: data.train: must be text, or null; found []");
  CHECK(problems("data: {normalize: {mean: 0.5}}") ==
        "f:1:20: data.normalize.mean: must be a list [...], each entry a number; found 0.5");
  CHECK(problems("data: {normalize: {std: [1, x, 1]}}") ==
        "f:1:20: data.normalize.std: must be a list [...], each entry a number above 0; found [1, x, 1]");
  CHECK(problems("algorithm: {name: dcs3gd}") ==
        "f:1:13: algorithm.name: must be one of dc_s3gd, s3gd, ssgd; found dcs3gd. Did you mean dc_s3gd?");
  CHECK(problems("comm: 5") ==
        "f:1:1: comm: must be a section with the keys algorithm, wire, ranks_per_host, segment_bytes, core, timeout_s; "
        "found 5");
  CHECK(override_problem("optimizer.lr.base=x") ==
        "--set optimizer.lr.base=x: optimizer.lr.base: must be a number above 0 and at most 1000000; found x");
}

TEST_CASE("values out of range") {
  CHECK(problems("run: {epochs: 0}") == "f:1:7: run.epochs: must be a whole number from 1 to 1000000; found 0");
  CHECK(problems("run: {seed: 9223372036854775808}") ==
        "f:1:7: run.seed: must be a whole number of at least 0; found 9223372036854775808");
  CHECK(problems("model: {dropout: 1}") == "f:1:9: model.dropout: must be a number of at least 0 and below 1; found 1");
  CHECK(problems("optimizer: {momentum: 0.99999999999}") ==
        "f:1:13: optimizer.momentum: must be a number of at least 0 and below 1; found 0.99999999999");
  CHECK(problems("data: {augment: {color_jitter: 2}}") ==
        "f:1:18: data.augment.color_jitter: must be a number of at least 0 and at most 1; found 2");
  CHECK(problems("data: {augment: {mixup: 200}}") ==
        "f:1:18: data.augment.mixup: must be a number of at least 0 and at most 100; found 200");
  for (const std::string value : {"0", "-1", ".nan", "nan", ".inf", "inf", "1e999", "-1e-3"}) {
    CHECK(problems("optimizer: {lr: {base: " + value + "}}") ==
          "f:1:18: optimizer.lr.base: must be a number above 0 and at most 1000000; found " + value);
  }
  CHECK(problems("optimizer: {weight_decay: 1e39}") ==
        "f:1:13: optimizer.weight_decay: must be a number of at least 0; found 1e39");
}

TEST_CASE("duplicate keys at every level") {
  CHECK(problems("run: {epochs: 1}\ncomm: {}\nrun: {seed: 2}\n") ==
        "f:3:1: run: given twice, first in line 1. Keep one");
  CHECK(problems("optimizer:\n  lr:\n    base: 1\n    gamma: 1\n    base: 1\n") ==
        "f:5:5: optimizer.lr.base: given twice, first in line 3. Keep one");
  CHECK(override_problem("run={seed: 1, seed: 1}") == "--set run={seed: 1, seed: 1}: run.seed: given twice. Keep one");
}

TEST_CASE("overrides that are none") {
  CHECK(override_problem("run.epochs") == "--set run.epochs: expected KEY=VALUE, for example run.epochs=10");
  CHECK(override_problem("=5") == "--set =5: expected KEY=VALUE, for example run.epochs=10");
  CHECK(override_problem("") == "--set : expected KEY=VALUE, for example run.epochs=10");
  CHECK(override_problem("optimizer.lr.base=") ==
        "--set optimizer.lr.base=: optimizer.lr.base: must be a number above 0 and at most 1000000; found null");
  CHECK(override_problem("run.name=a: b: c") == "--set run.name=a: b: c: run.name: not valid YAML: illegal map value");
  CHECK(override_problem("run.=1") == "--set run.=1: run.: unknown key. Did you mean run?");
}

TEST_CASE("rules between keys") {
  CHECK(problems("data:\n  channels: 1\n  normalize: {mean: [0.1, 0.2, 0.3], std: [1]}\n") ==
        "f:3:15: data.normalize.mean: must have one entry per channel (data.channels: 1); found 3");
  CHECK(problems("data: {normalize: {mean: [0, 0, 0]}}") ==
        "f:1:20: data.normalize.mean: needs data.normalize.std beside it");
  CHECK(problems("data: {normalize: {std: [1, 1, 1]}}") ==
        "f:1:20: data.normalize.std: needs data.normalize.mean beside it");
  CHECK(problems("data: {channels: 2}") == "f:1:8: data.channels: must be 1 (grey) or 3 (colour); found 2");
  CHECK(problems("data: {format: cifar10, train: x}") ==
        "f:1:8: data.format: data on disk needs data.train and data.eval; missing: data.eval");
  CHECK(problems("data: {format: idx}") ==
        "f:1:8: data.format: data on disk needs data.train and data.eval; missing: data.train, data.eval");
  CHECK(problems("data: {format: image_folder, train: x, split: 0.2}").empty());
  CHECK(problems("data: {format: image_folder, train: x, eval: y, split: 0.2}") ==
        "f:1:49: data.split: takes the evaluation images from data.train; leave data.eval out, or data.split");
  CHECK(problems("data: {format: cifar10, train: x, split: 0.2}") ==
        "f:1:35: data.split: divides an image_folder, not data of the format cifar10");
  CHECK(problems("{data: {augment: {mixup: 0.2}}, algorithm: {batch_per_worker: 1}}") ==
        "f:1:19: data.augment.mixup: mixes the images of a worker's batch; algorithm.batch_per_worker must be at least "
        "2");
  CHECK(problems("data: {augment: {mixup: 0.2}}").empty());
  CHECK(problems("optimizer: {lr: {milestones: [3, 3]}}") ==
        "f:1:18: optimizer.lr.milestones: must be in ascending order");
  CHECK(problems("optimizer: {lr: {schedule: step}}") ==
        "f:1:18: optimizer.lr.schedule: step needs optimizer.lr.milestones, for example [15, 25]");
  CHECK(problems("{algorithm: {own_momentum: 0.95}, optimizer: {momentum: 0.9}}") ==
        "f:1:14: algorithm.own_momentum: must be at most optimizer.momentum, 0.9; found 0.95");
  CHECK(problems("algorithm: {worker: host, workers_per_rank: 2}") ==
        "f:1:13: algorithm.worker: host makes one worker of a host's ranks; algorithm.workers_per_rank must be 1");
  CHECK(problems("algorithm: {fresh: 1.5}") ==
        "f:1:13: algorithm.fresh: must be a number of at least 0 and at most 1, or auto; found 1.5");
  CHECK(problems("comm: {wire: bf16, algorithm: mpi}") ==
        "f:1:8: comm.wire: bf16 needs comm.algorithm: ring or direct or halving_doubling or hierarchical or shared or "
        "auto; "
        "MPI_Allreduce sums fp32 only");
  CHECK(problems("comm: {wire: int4, algorithm: ring}") ==
        "f:1:8: comm.wire: int4 needs comm.algorithm: direct or hierarchical or shared or auto; ring would round a sum "
        "more than "
        "twice");
  CHECK(problems("model: {name: resnet21}") ==
        "f:1:9: model.name: must be " + one_of_the_networks() + "; found resnet21. Did you mean resnet20?");
}

TEST_CASE("a rule counts on the value that holds in the end and points at the key it is about") {
  CHECK(problems("{comm: {wire: bf16}}", {"comm.algorithm=mpi", "comm.wire=bf16"}) ==
        "--set comm.wire=bf16: comm.wire: bf16 needs comm.algorithm: ring or direct or halving_doubling or "
        "hierarchical or shared or auto; MPI_Allreduce sums fp32 only");
  CHECK(problems("{comm: {wire: bf16, algorithm: mpi}}", {"comm.algorithm=ring"}).empty());
  CHECK(problems("comm: {wire: bf16, algorithm: auto}").empty());
  // A warm-up is cut off by a short run.
  CHECK(problems("{optimizer: {lr: {warmup_epochs: 3}}, run: {epochs: 2}}").empty());
  // What could not be read is not known.
  CHECK(problems("data: {format: idx, train: [], eval: x}") == "f:1:21: data.train: must be text, or null; found []");
}

TEST_CASE("names of run folders") {
  for (const std::string name : {".", "..", "a/b", "/a"}) {
    CAPTURE(name);
    CHECK(problems("run: {name: " + name + "}") ==
          "f:1:7: run.name: must be a name for a folder, without \"/\" and of at most 200 bytes; found \"" + name +
              "\"");
  }
  CHECK(problems("run: {name: " + std::string(201, 'a') + "}").starts_with("f:1:7: run.name: must be a name"));
  CHECK(problems("run: {name: " + std::string(200, 'a') + "}").empty());

  const auto name_from = [](const std::string& file_name) {
    return parse_configuration({.file_name = file_name, .text = "{}", .overrides = {}}).run.name;
  };
  CHECK(name_from("configs/resnet50.yaml") == "resnet50");
  CHECK(name_from("a.b.yaml") == "a.b");
  CHECK(name_from("/dev/fd/63") == "63");
  CHECK_THROWS_WITH_AS(name_from("x/...yaml"),
                       "x/...yaml:1:1: run.name: must be a name for a folder, without \"/\" and of at most 200 bytes; "
                       "found \"..\"",
                       Error);
  CHECK_THROWS_AS(name_from("\xff.yaml"), Error);
}

TEST_CASE("all problems come in one go, in the order of the file and the overrides") {
  CHECK(problems("output: {trace: maybe}\n"
                 "run:\n"
                 "  epochs: ten\n"
                 "  name: a/b\n"
                 "  epochs: 4\n"
                 "data: {channels: 2, sufle: true}\n"
                 "optimizer: [1]\n",
                 {"run.seed=-1", "comm.wrie=fp32", "model.name=alexnet"}) ==
        "f:1:10: output.trace: must be true or false; found maybe\n"
        "f:3:3: run.epochs: must be a whole number from 1 to 1000000; found ten\n"
        "f:4:3: run.name: must be a name for a folder, without \"/\" and of at most 200 bytes; found \"a/b\"\n"
        "f:5:3: run.epochs: given twice, first in line 3. Keep one\n"
        "f:6:8: data.channels: must be 1 (grey) or 3 (colour); found 2\n"
        "f:6:21: data.sufle: unknown key. Did you mean data.shuffle?\n"
        "f:7:1: optimizer: must be a section with the keys momentum, nesterov, weight_decay, decay_norm_and_bias, "
        "groups, lr; "
        "found [1]\n"
        "--set run.seed=-1: run.seed: must be a whole number of at least 0; found -1\n"
        "--set comm.wrie=fp32: comm.wrie: unknown key. Did you mean comm.wire?\n"
        "--set model.name=alexnet: model.name: must be " +
            one_of_the_networks() + "; found alexnet");
}

TEST_CASE("hostile and broken text is one clear error, quickly") {
  constexpr double kPatienceS = 10;  // of processor time, so that a busy machine does not count; sanitizers take 6
  const std::clock_t begin = std::clock();

  CHECK(problems("") == "f:1:1: no configuration in it. Write {} for all defaults");
  CHECK(problems("# only a comment\n") == "f:1:1: no configuration in it. Write {} for all defaults");
  CHECK(problems("- run\n- model\n") ==
        "f:1:1: expected the sections run, model, data, algorithm, optimizer, comm, "
        "checkpoint, output; found [run, model]");
  CHECK(problems("epochs:5\n") ==
        "f:1:1: expected the sections run, model, data, algorithm, optimizer, comm, "
        "checkpoint, output; found epochs:5");
  CHECK(problems("run:\n\tepochs: 5\n") == "f:2:8: not valid YAML: illegal map value. Indent with spaces, not tabs");
  CHECK(problems("run: {epochs: [1, 2\n") == "f:2:1: not valid YAML: end of sequence flow not found");
  CHECK(problems("run:\n  name: \"x\n  epochs: 5\n") ==
        "f:2:9: not valid YAML: the closing quote is missing on this line");
  CHECK(problems("run:\n  name: 'it''s\n  epochs: 5\n") ==
        "f:2:9: not valid YAML: the closing quote is missing on this line");
  CHECK(problems(std::string("run: {name: \0}", 14)) == "f:1:13: not a text file: found the control character 0x00");
  CHECK(problems("run: {name: \"\\0\"}") == "f:1:7: run.name: must be non-empty text; found \"?\"");
  CHECK(problems("# gr\xFC\xDF"
                 "e\nrun: {}\n") == "f:1:5: not UTF-8 text: found the byte 0xFC");
  CHECK(problems("# \xED\xA0\x80") == "f:1:3: not UTF-8 text: found the byte 0xED");
  CHECK(problems("# \xC0\x80") == "f:1:3: not UTF-8 text: found the byte 0xC0");
  CHECK(problems("# \xF4\x90\x80\x80") == "f:1:3: not UTF-8 text: found the byte 0xF4");
  CHECK(problems("# \xE2\x82") == "f:1:3: not UTF-8 text: found the byte 0xE2");
  CHECK(problems("\xFF\xFEr\0") == "f:1:1: not UTF-8 text: found the byte 0xFF");
  CHECK(problems("\xEF\xBB\xBFrun: {name: \"\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80\"}").empty());
  CHECK(problems("run: {}\n---\nrun: {}\n") == "f:2:1: not valid YAML: a second document begins here, expected one");
  CHECK(problems("run: !!map {}") == "f:1:6: not valid YAML: tags (!) are not accepted. Put text in quotes");
  CHECK(problems("? [a]\n: 1\n") ==
        "f:1:3: not valid YAML: expected a key in plain text here, or a closing bracket is "
        "missing");
  CHECK(problems("~: 1\n").starts_with("f:1:1: null: unknown key"));

  const std::string anchors =
      "anchors (&) and aliases (*) are not accepted. Write the value out, in quotes if it begins "
      "like this";
  CHECK(problems("run: {name: *x}").starts_with("f:1:13: not valid YAML: the referenced anchor is not defined"));
  CHECK(problems("a: &a [x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n") == "f:1:4: not valid YAML: " + anchors);

  CHECK(problems(repeated("[", 100'000)).find("not valid YAML: ") != std::string::npos);
  CHECK(problems(repeated("{a: ", 100'000)).find("not valid YAML: ") != std::string::npos);
  CHECK(problems(repeated("- ", 100'000)) == "f:1:33: not valid YAML: nested deeper than 16 levels");
  CHECK(problems("run: {epochs: " + repeated("[", 100'000)).find("not valid YAML: ") != std::string::npos);
  CHECK(problems("a: " + repeated("x", 2'000'000)) == "f:1:1: larger than 1048576 bytes, which no configuration is");
  CHECK(override_problem("run." + repeated("a.", 50'000) + "b=1").starts_with("--set run.a.a.a"));
  CHECK(problems(repeated("a: 1\n", 100'000)).size() < 10'000);
  CHECK(problems("run: {epochs: [" + repeated("1, ", 200'000) + "]}").size() < 300);
  CHECK(problems("run: {" + repeated("k", 500'000) + ": 1}").size() < 400);

  std::string many;
  for (int i = 0; i < 60'000; ++i) many += "key" + std::to_string(i) + ": 1\n";
  const std::string message = problems(many);
  CHECK(std::ranges::count(message, '\n') == 50);
  CHECK(message.ends_with("\nThere may be more: reading stopped at this point"));

  CHECK(static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC < kPatienceS);
}

TEST_CASE("every beginning of a configuration is read or refused, never a crash") {
  const std::string text = kAllKeys;
  for (std::size_t length = 0; length < text.size(); length += 3) {
    const std::string message = problems(text.substr(0, length));
    if (!message.empty()) CHECK(message.starts_with("f:"));
  }
}

TEST_CASE("a value that YAML takes for something else is told as that") {
  for (const std::string value : {"%s", "#1", "---", "..."}) {
    CHECK(override_problem("run.name=" + value) ==
          "--set run.name=" + value + ": run.name: YAML takes " + value +
              " for a directive, a comment or a mark, not for a value. Put it in quotes, and these into others for the "
              "shell: --set 'run.name=\"" +
              value + "\"'");
    CHECK(override_problem("run.name=\"" + value + "\"") == "");
  }
  CHECK(override_problem("run.max_steps=null") == "");
}

TEST_CASE("evaluation needs no training data; classes are counted in data on disk") {
  const std::string text = "data: {format: image_folder, eval: photos}";
  CHECK(contains(problems(text), "missing: data.train"));
  CHECK(parse_configuration({.file_name = "f", .text = text, .overrides = {}, .is_trained = false}).data.eval ==
        "photos");
  try {
    parse_configuration({.file_name = "f", .text = "data: {format: idx}", .overrides = {}, .is_trained = false});
    FAIL("accepted");
  } catch (const Error& error) {
    CHECK(contains(error.what(), "data on disk needs data.eval; missing: data.eval"));
  }
  CHECK(problems("model: {classes: auto}\ndata: {format: idx, train: a, eval: a}") == "");
  CHECK(contains(problems("model: {classes: auto}"), "generated data have as many as it says"));
  CHECK(contains(problems("model: {classes: 1}"), "must be a whole number from 2 to 1000000, or auto; found 1"));
}
