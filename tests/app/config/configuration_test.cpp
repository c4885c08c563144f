#include "app/config/configuration.h"

#include <algorithm>
#include <ctime>
#include <fstream>
#include <sstream>

#include <doctest/doctest.h>

#include "app/config/network_reader.h"
#include "app/config/schema.h"
#include "core/error.h"
#include "tests/support/temporary_folder.h"

using namespace dcs3gd::app;
namespace data = dcs3gd::data;
namespace comm = dcs3gd::comm;
namespace optim = dcs3gd::optim;
using dcs3gd::Error;
using dcs3gd::ErrorKind;
using dcs3gd::test::TemporaryFolder;

namespace {

/// "one of lenet5, …"
std::string one_of_the_networks() {
  std::string names;
  for (const std::string& name : network_names()) names += (names.empty() ? "one of " : ", ") + name;
  return names;
}

Configuration parse(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return parse_configuration({.file_name = "some/tiny.yaml", .text = text, .overrides = overrides});
}

/// The message of the error; empty if there is none.
std::string problems(const std::string& text, const std::vector<std::string>& overrides = {}) {
  try {
    parse_configuration({.file_name = "f", .text = text, .overrides = overrides});
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    return error.what();
  }
  return "";
}

std::string override_problem(const std::string& assignment) { return problems("{}", {assignment}); }

/// The YAML without its comments.
std::string plain(const Configuration& configuration) {
  std::istringstream yaml(to_yaml(configuration));
  std::string plain;
  for (std::string line; std::getline(yaml, line);) {
    line.resize(std::min(line.size(), line.find("  # ")));
    plain += line.substr(0, line.find_last_not_of(' ') + 1) + '\n';
  }
  return plain;
}

std::string repeated(const std::string& part, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += part;
  return text;
}

/// Every key with another value than its default, as far as this version supports one.
constexpr const char* kAllKeys = R"(
run: {name: "my run", output_dir: /data/out, seed: 9223372036854775807, epochs: 31, max_steps: 12, eval_every_epochs: 0,
      threads: 3, loss_limit: 99.5}
model: {name: vgg11_bn, classes: 12, convolution: direct, init: "start/1.safetensors", zero_init_residual: true,
        dropout: 0.25}
data:
  format: idx
  train: a/train
  eval: "a \"b\" \\ # c"
  image_size: 28
  channels: 1
  shuffle: false
  synthetic: {train_images: 11, eval_images: 13}
  normalize: {mean: [0.1307], std: [.3081]}
  augment: {random_crop_padding: 4, horizontal_flip: true}
  loader: {threads: 0, prefetch_batches: 7, on_bad_image: skip}
algorithm: {name: ssgd, lambda0: +0.3, lambda_norm: tensor, lambda_max: 17, workers_per_rank: 5, batch_per_worker: 64,
            label_smoothing: 0.1, gradient_clip_norm: 2.5}
optimizer:
  momentum: 0.95
  nesterov: true
  weight_decay: 1e-5
  decay_norm_and_bias: true
  lr: {base: 5e-4, scaling: sqrt, reference_batch: 256, warmup_epochs: 2.5, warmup_start: 1e-06, schedule: step,
       milestones: [10, 20.5], gamma: 0.2, power: 3, final: 0.001}
comm: {algorithm: mpi, segment_bytes: 65536, core: 0, timeout_s: 0.5}
checkpoint: {every_epochs: null, every_steps: 100, every_minutes: 7.5, keep: 1}
output: {progress: none, metrics_every_steps: 10}
)";

}  // namespace

TEST_CASE("the keys of the configuration are a contract: adding one means editing this list on purpose") {
  const std::vector<std::string> expected = {
      "run.name",
      "run.output_dir",
      "run.seed",
      "run.epochs",
      "run.max_steps",
      "run.eval_every_epochs",
      "run.threads",
      "run.time_limit_minutes",
      "run.loss_limit",
      "model.name",
      "model.file",
      "model.classes",
      "model.precision",
      "model.convolution",
      "model.init",
      "model.init_skip",
      "model.zero_init_residual",
      "model.dropout",
      "data.format",
      "data.train",
      "data.eval",
      "data.image_size",
      "data.channels",
      "data.shuffle",
      "data.synthetic.train_images",
      "data.synthetic.eval_images",
      "data.normalize.mean",
      "data.normalize.std",
      "data.augment.random_crop_padding",
      "data.augment.random_resized_crop",
      "data.augment.horizontal_flip",
      "data.augment.color_jitter",
      "data.augment.mixup",
      "data.loader.threads",
      "data.loader.prefetch_batches",
      "data.loader.on_bad_image",
      "algorithm.name",
      "algorithm.lambda0",
      "algorithm.lambda_norm",
      "algorithm.lambda_max",
      "algorithm.workers_per_rank",
      "algorithm.batch_per_worker",
      "algorithm.micro_batches",
      "algorithm.label_smoothing",
      "algorithm.gradient_clip_norm",
      "optimizer.momentum",
      "optimizer.nesterov",
      "optimizer.weight_decay",
      "optimizer.decay_norm_and_bias",
      "optimizer.lr.base",
      "optimizer.lr.scaling",
      "optimizer.lr.reference_batch",
      "optimizer.lr.warmup_epochs",
      "optimizer.lr.warmup_start",
      "optimizer.lr.schedule",
      "optimizer.lr.milestones",
      "optimizer.lr.gamma",
      "optimizer.lr.power",
      "optimizer.lr.final",
      "comm.algorithm",
      "comm.wire",
      "comm.segment_bytes",
      "comm.core",
      "comm.timeout_s",
      "checkpoint.every_epochs",
      "checkpoint.every_steps",
      "checkpoint.every_minutes",
      "checkpoint.keep",
      "output.progress",
      "output.metrics_every_steps",
      "output.trace",
  };
  Configuration configuration;
  std::vector<std::string> keys;
  for (const Field& field : schema(configuration)) keys.push_back(field.key);
  CHECK(keys == expected);
}

TEST_CASE("an empty configuration has the documented defaults") {
  CHECK(plain(parse("{}")) == R"(run:
  name: tiny
  output_dir: runs
  seed: 1
  epochs: 30
  max_steps: null
  eval_every_epochs: 1
  threads: auto
  time_limit_minutes: null
  loss_limit: null
model:
  name: resnet20
  file: null
  classes: 10
  precision: fp32
  convolution: auto
  init: random
  init_skip: []
  zero_init_residual: false
  dropout: 0.5
data:
  format: synthetic
  train: null
  eval: null
  image_size: 32
  channels: 3
  shuffle: true
  synthetic:
    train_images: 4096
    eval_images: 1024
  normalize:
    mean: []
    std: []
  augment:
    random_crop_padding: 0
    random_resized_crop: false
    horizontal_flip: false
    color_jitter: 0
    mixup: 0
  loader:
    threads: auto
    prefetch_batches: 4
    on_bad_image: error
algorithm:
  name: dc_s3gd
  lambda0: 0.2
  lambda_norm: global
  lambda_max: null
  workers_per_rank: 1
  batch_per_worker: 128
  micro_batches: 1
  label_smoothing: 0
  gradient_clip_norm: null
optimizer:
  momentum: 0.9
  nesterov: false
  weight_decay: 0.0005
  decay_norm_and_bias: false
  lr:
    base: 0.1
    scaling: linear
    reference_batch: 128
    warmup_epochs: 5
    warmup_start: 0
    schedule: linear
    milestones: []
    gamma: 0.1
    power: 2
    final: 0
comm:
  algorithm: ring
  wire: fp32
  segment_bytes: auto
  core: auto
  timeout_s: 300
checkpoint:
  every_epochs: 1
  every_steps: null
  every_minutes: null
  keep: 3
output:
  progress: auto
  metrics_every_steps: 1
  trace: false
)");
}

TEST_CASE("every key reaches its place") {
  const Configuration c = parse(kAllKeys);
  CHECK(c.run.name == "my run");
  CHECK(c.run.output_dir == "/data/out");
  CHECK(c.run.seed == 9223372036854775807U);
  CHECK(c.run.epochs == 31);
  CHECK(c.run.max_steps == 12);
  CHECK(c.run.eval_every_epochs == 0);
  CHECK(c.run.threads == 3);
  CHECK(c.run.loss_limit == 99.5);
  CHECK(c.model.name == "vgg11_bn");
  CHECK(c.model.classes == 12);
  CHECK(c.model.convolution == ConvolutionMode::direct);
  CHECK(c.model.init == "start/1.safetensors");
  CHECK(c.model.zero_init_residual);
  CHECK(c.model.dropout == 0.25F);
  CHECK(c.data.format == "idx");
  CHECK(c.data.train == "a/train");
  CHECK(c.data.eval == R"(a "b" \ # c)");
  CHECK(c.data.image_size == 28);
  CHECK(c.data.channels == 1);
  CHECK_FALSE(c.data.shuffle);
  CHECK(c.data.synthetic.train_images == 11);
  CHECK(c.data.synthetic.eval_images == 13);
  CHECK(c.data.normalize.mean == std::vector<float>{0.1307F});
  CHECK(c.data.normalize.std == std::vector<float>{0.3081F});
  CHECK(c.data.augment.random_crop_padding == 4);
  CHECK(c.data.augment.horizontal_flip);
  CHECK(c.data.loader.threads == 0);
  CHECK(c.data.loader.prefetch_batches == 7);
  CHECK(c.data.loader.on_bad_image == data::OnBadImage::skip);
  CHECK(c.algorithm.name == "ssgd");
  CHECK(c.algorithm.lambda0 == 0.3);
  CHECK(c.algorithm.lambda_norm == LambdaNorm::tensor);
  CHECK(c.algorithm.lambda_max == 17);
  CHECK(c.algorithm.workers_per_rank == 5);
  CHECK(c.algorithm.batch_per_worker == 64);
  CHECK(c.algorithm.label_smoothing == 0.1F);
  CHECK(c.algorithm.gradient_clip_norm == 2.5);
  CHECK(c.optimizer.sgd.momentum == 0.95F);
  CHECK(c.optimizer.sgd.nesterov);
  CHECK(c.optimizer.sgd.weight_decay == 1e-5F);
  CHECK(c.optimizer.sgd.decay_norm_and_bias);
  CHECK(c.optimizer.lr.base == 5e-4);
  CHECK(c.optimizer.lr.scaling == optim::LearningRateScaling::sqrt);
  CHECK(c.optimizer.lr.reference_batch == 256);
  CHECK(c.optimizer.lr.warmup_epochs == 2.5);
  CHECK(c.optimizer.lr.warmup_start == 1e-6);
  CHECK(c.optimizer.lr.schedule == optim::ScheduleKind::step);
  CHECK(c.optimizer.lr.milestones == std::vector<double>{10, 20.5});
  CHECK(c.optimizer.lr.gamma == 0.2);
  CHECK(c.optimizer.lr.power == 3);
  CHECK(c.optimizer.lr.final_rate == 0.001);
  CHECK(c.comm.algorithm == "mpi");
  CHECK(c.comm.segment_bytes == 65536);
  CHECK(c.comm.core == 0);
  CHECK(c.comm.timeout_s == 0.5);
  CHECK_FALSE(c.checkpoint.every_epochs.has_value());
  CHECK(c.checkpoint.every_steps == 100);
  CHECK(c.checkpoint.every_minutes == 7.5);
  CHECK(c.checkpoint.keep == 1);
  CHECK(c.output.progress == ProgressStyle::none);
  CHECK(c.output.metrics_every_steps == 10);
  CHECK(parse("{comm: {wire: bf16}}").comm.wire == comm::Wire::bf16);
}

TEST_CASE("every word of a choice is accepted and printed as it was written") {
  const std::vector<std::pair<std::string, std::vector<std::string>>> choices = {
      {"model.convolution", {"auto", "direct"}},
      {"data.format", {"synthetic", "cifar10", "cifar100", "idx"}},
      {"data.loader.on_bad_image", {"error", "skip"}},
      {"algorithm.name", {"dc_s3gd", "s3gd", "ssgd"}},
      {"algorithm.lambda_norm", {"global", "tensor"}},
      {"optimizer.lr.scaling", {"linear", "sqrt", "none"}},
      {"optimizer.lr.schedule", {"linear", "cosine", "step", "poly", "constant"}},
      {"comm.algorithm", {"ring", "direct", "mpi"}},
      {"comm.wire", {"fp32", "bf16"}},
      {"output.progress", {"auto", "bar", "lines", "none"}},
  };
  for (const auto& choice : choices) {
    const std::string& key = choice.first;  // CAPTURE takes no structured binding with clang 14
    for (const std::string& word : choice.second) {
      CAPTURE(key);
      CAPTURE(word);
      const Configuration c =
          parse("{data: {train: a, eval: b}, optimizer: {lr: {milestones: [3]}}}", {key + "=" + word});
      const std::string line = key.substr(key.rfind('.') + 1) + ": " + word + "\n";
      CHECK(plain(c).find(" " + line) != std::string::npos);
    }
  }
}

TEST_CASE("what is printed reads back as the same configuration") {
  for (const char* text : {"{}", kAllKeys}) {
    const Configuration original = parse(text);
    const std::string printed = to_yaml(original);
    const Configuration read = parse_configuration({.file_name = "other", .text = printed, .overrides = {}});
    CHECK(to_yaml(read) == printed);
    CHECK(to_lines(read) == to_lines(original));
  }
}

TEST_CASE("text is printed so that every YAML reader takes it for text") {
  const auto printed_name = [](const std::string& name) {
    Configuration c;
    c.run.name = name;
    const std::string yaml = plain(c);
    const std::size_t begin = yaml.find("name: ") + 6;
    CHECK(parse(yaml).run.name == name);
    return yaml.substr(begin, yaml.find('\n', begin) - begin);
  };
  CHECK(printed_name("resnet20-b128_x.1") == "resnet20-b128_x.1");
  for (const std::string name : {"2024", "1e3", "null", "Yes", "off", "~", "-",   "- a", "a: b", "a #b", "[a]", "*x",
                                 "&x",   "!x",  "'",    "\"",  "\\",  "%", "äöü", ".5",  "nan",  " a",   "a b"}) {
    CAPTURE(name);
    CHECK(printed_name(name).front() == '"');
  }
}

TEST_CASE("numbers are printed in the form that YAML 1.1 readers take for numbers too") {
  const Configuration c = parse("{optimizer: {weight_decay: 1e-05, lr: {base: 1e30, gamma: 5e-4}}}");
  CHECK(plain(c).find("weight_decay: 1.0e-05\n") != std::string::npos);
  CHECK(plain(c).find("base: 1.0e+30\n") != std::string::npos);
  CHECK(plain(c).find("gamma: 0.0005\n") != std::string::npos);
}

TEST_CASE("a configuration may leave sections out or empty, and give its keys in any order") {
  const Configuration c = parse("comm:\n# wire: bf16\nmodel: {classes: 7}\nrun:\n  epochs: 2\n");
  CHECK(c.model.classes == 7);
  CHECK(c.run.epochs == 2);
  CHECK(c.comm.wire == comm::Wire::fp32);
}

TEST_CASE("overrides win over the file, later ones over earlier ones") {
  const std::string text = "{run: {epochs: 5, seed: 7}, optimizer: {lr: {base: 0.5, gamma: 0.5}}}";
  CHECK(parse(text, {"run.epochs=6"}).run.epochs == 6);
  CHECK(parse(text, {"run.epochs=6", "run.epochs=8"}).run.epochs == 8);
  CHECK(parse(text, {"run.epochs=6"}).run.seed == 7);
  CHECK(parse(text, {"run.max_steps=9", "run.max_steps=null"}).run.max_steps == std::nullopt);
  CHECK(parse(text, {"run.name=a=b"}).run.name == "a=b");
  CHECK(parse(text, {"run.name=\"x: y\""}).run.name == "x: y");
  CHECK(parse(text, {"run.output_dir=20240101"}).run.output_dir == "20240101");
}

TEST_CASE("an override may be a list, or a map that leaves the keys it does not mention alone") {
  const Configuration c = parse("{data: {channels: 1}, optimizer: {lr: {base: 0.5}}}",
                                {"data.normalize={mean: [0.5], std: [0.25]}", "optimizer.lr.milestones=[1, 2]",
                                 "optimizer={nesterov: true, lr: {schedule: step}}"});
  CHECK(c.data.normalize.mean == std::vector<float>{0.5F});
  CHECK(c.optimizer.lr.milestones == std::vector<double>{1, 2});
  CHECK(c.optimizer.lr.schedule == optim::ScheduleKind::step);
  CHECK(c.optimizer.lr.base == 0.5);
  CHECK(c.optimizer.sgd.nesterov);
}

TEST_CASE("an override that cures a rule's violation in the file is enough") {
  CHECK(problems("{data: {format: idx}}", {"data.format=synthetic"}).empty());
  CHECK(problems("{model: {precision: bf16}}", {"model.precision=fp32"}).empty());
}

TEST_CASE("checkpoint.every_epochs 0 is the same as null") {
  CHECK(plain(parse("{checkpoint: {every_epochs: 0}}")) == plain(parse("{checkpoint: {every_epochs: null}}")));
}

TEST_CASE("unknown keys") {
  CHECK(problems("run:\n  epochs: 1\n  epocs: 2\n") == "f:3:3: run.epocs: unknown key. Did you mean run.epochs?");
  CHECK(problems("algorithm: {lambda_0: 1}") ==
        "f:1:13: algorithm.lambda_0: unknown key. Did you mean algorithm.lambda0?");
  CHECK(problems("optimzier: {lr: {base: x}}") == "f:1:1: optimzier: unknown key. Did you mean optimizer?");
  CHECK(problems("epochs: 1") == "f:1:1: epochs: unknown key. Did you mean run.epochs?");
  CHECK(problems("data: {threads: 1}") == "f:1:8: data.threads: unknown key. Did you mean data.loader.threads?");
  CHECK(problems("comm: {colour: red}") ==
        "f:1:8: comm.colour: unknown key. The keys of comm are algorithm, wire, segment_bytes, core, timeout_s");
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
        "f:1:1: comm: must be a section with the keys algorithm, wire, segment_bytes, core, timeout_s; found 5");
  CHECK(override_problem("optimizer.lr.base=x") ==
        "--set optimizer.lr.base=x: optimizer.lr.base: must be a number above 0; found x");
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
          "f:1:18: optimizer.lr.base: must be a number above 0; found " + value);
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
        "--set optimizer.lr.base=: optimizer.lr.base: must be a number above 0; found null");
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
  CHECK(problems("{data: {augment: {mixup: 0.2}}, algorithm: {batch_per_worker: 1}}") ==
        "f:1:19: data.augment.mixup: mixes the images of a worker's batch; algorithm.batch_per_worker must be at least "
        "2");
  CHECK(problems("data: {augment: {mixup: 0.2}}").empty());
  CHECK(problems("optimizer: {lr: {milestones: [3, 3]}}") ==
        "f:1:18: optimizer.lr.milestones: must be in ascending order");
  CHECK(problems("optimizer: {lr: {schedule: step}}") ==
        "f:1:18: optimizer.lr.schedule: step needs optimizer.lr.milestones, for example [15, 25]");
  CHECK(problems("comm: {wire: bf16, algorithm: mpi}") ==
        "f:1:8: comm.wire: bf16 needs comm.algorithm: ring or direct; MPI_Allreduce sums fp32 only");
  CHECK(problems("model: {name: resnet21}") ==
        "f:1:9: model.name: must be " + one_of_the_networks() + "; found resnet21. Did you mean resnet20?");
}

TEST_CASE("a rule counts on the value that holds in the end and points at the key it is about") {
  CHECK(problems("{comm: {wire: bf16}}", {"comm.algorithm=mpi", "comm.wire=bf16"}) ==
        "--set comm.wire=bf16: comm.wire: bf16 needs comm.algorithm: ring or direct; MPI_Allreduce sums fp32 only");
  CHECK(problems("{comm: {wire: bf16, algorithm: mpi}}", {"comm.algorithm=ring"}).empty());
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
        "f:7:1: optimizer: must be a section with the keys momentum, nesterov, weight_decay, decay_norm_and_bias, lr; "
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
  CHECK(problems("run: {name: *x}") == "f:1:13: not valid YAML: the referenced anchor is not defined");
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

TEST_CASE("the hash tells configurations apart and never changes by itself") {
  CHECK(configuration_hash(parse("{}")) == "e345f23f65da8236");
  CHECK(configuration_hash(parse("run: {seed: 1}")) == configuration_hash(parse("{}")));
  CHECK(configuration_hash(parse("run: {seed: 2}")) != configuration_hash(parse("{}")));
}

TEST_CASE("configuration files are looked for as given, then in the folders") {
  const TemporaryFolder folder;
  const std::filesystem::path first = folder / "first";
  const std::filesystem::path second = folder / "second";
  std::filesystem::create_directories(first);
  std::filesystem::create_directories(second);
  for (const std::filesystem::path& file : {second / "run.yaml", second / "both.yaml", first / "both.yaml"}) {
    std::ofstream(file) << "{}";
  }
  const std::vector<std::filesystem::path> folders = {first, second};

  CHECK(find_configuration_file((second / "both.yaml").string(), folders) == second / "both.yaml");
  CHECK(find_configuration_file("both.yaml", folders) == first / "both.yaml");
  CHECK(find_configuration_file("run.yaml", folders) == second / "run.yaml");
  CHECK_THROWS_WITH_AS(find_configuration_file("none.yaml", folders),
                       ("--config none.yaml: no such file. Looked for none.yaml, " + (first / "none.yaml").string() +
                        ", " + (second / "none.yaml").string())
                           .c_str(),
                       Error);
}

TEST_CASE("a configuration file is read with its name; folders and large files are refused") {
  const TemporaryFolder folder;
  const std::string file = folder / "small.yaml";
  std::ofstream(file) << "run: {epochs: 3}\n";
  const ConfigurationSource source = read_configuration_file(file, {"run.seed=4"});
  CHECK(source.file_name == file);
  const Configuration c = parse_configuration(source);
  CHECK(c.run.name == "small");
  CHECK(c.run.epochs == 3);
  CHECK(c.run.seed == 4);

  CHECK_THROWS_WITH_AS(read_configuration_file(folder.path(), {}),
                       (folder.path().string() + ": expected a readable file with a configuration").c_str(), Error);
  const std::string large = folder / "large.yaml";
  std::ofstream(large) << std::string(3'000'000, '#');
  CHECK_THROWS_WITH_AS(parse_configuration(read_configuration_file(large, {})),
                       (large + ":1:1: larger than 1048576 bytes, which no configuration is").c_str(), Error);
}
