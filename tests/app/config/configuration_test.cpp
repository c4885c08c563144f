#include "app/config/configuration.h"

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "app/config/schema.h"
#include "tests/app/config/configuration_test_support.h"
#include "tests/support/file_helpers.h"

using namespace dcs3gd::app;
using namespace dcs3gd::test;
namespace data = dcs3gd::data;
namespace comm = dcs3gd::comm;
namespace optim = dcs3gd::optim;

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
      "run.early_stopping.patience_evaluations",
      "run.early_stopping.min_delta",
      "model.name",
      "model.file",
      "model.classes",
      "model.precision",
      "model.convolution",
      "model.init",
      "model.init_skip",
      "model.init_classifier",
      "model.freeze",
      "model.ema_decay",
      "model.zero_init_residual",
      "model.dropout",
      "data.format",
      "data.train",
      "data.eval",
      "data.split",
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
      "algorithm.worker",
      "algorithm.own_momentum",
      "algorithm.fresh",
      "algorithm.overlap_from_epoch",
      "algorithm.staleness_limit",
      "algorithm.lambda0",
      "algorithm.lambda_norm",
      "algorithm.lambda_max",
      "algorithm.lambda",
      "algorithm.lambda_until_epoch",
      "algorithm.correction",
      "algorithm.correction_bound",
      "algorithm.workers_per_rank",
      "algorithm.batch_per_worker",
      "algorithm.micro_batches",
      "algorithm.label_smoothing",
      "algorithm.gradient_clip_norm",
      "optimizer.momentum",
      "optimizer.nesterov",
      "optimizer.weight_decay",
      "optimizer.decay_norm_and_bias",
      "optimizer.groups",
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
      "comm.ranks_per_host",
      "comm.segment_bytes",
      "comm.core",
      "comm.timeout_s",
      "checkpoint.every_epochs",
      "checkpoint.every_steps",
      "checkpoint.every_minutes",
      "checkpoint.keep",
      "checkpoint.workers",
      "output.progress",
      "output.metrics_every_steps",
      "output.trace",
      "output.mlflow",
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
  early_stopping:
    patience_evaluations: null
    min_delta: 0
model:
  name: resnet20
  file: null
  classes: 10
  precision: fp32
  convolution: auto
  init: random
  init_skip: []
  init_classifier: file
  freeze: []
  ema_decay: null
  zero_init_residual: false
  dropout: 0.5
data:
  format: synthetic
  train: null
  eval: null
  split: 0
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
  worker: rank
  own_momentum: 0
  fresh: 0.95
  overlap_from_epoch: 0
  staleness_limit: null
  lambda0: 0.2
  lambda_norm: global
  lambda_max: null
  lambda: null
  lambda_until_epoch: null
  correction: diagonal
  correction_bound: null
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
  groups: []
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
  algorithm: auto
  wire: fp32
  ranks_per_host: auto
  segment_bytes: auto
  core: auto
  timeout_s: 300
checkpoint:
  every_epochs: 1
  every_steps: null
  every_minutes: null
  keep: 3
  workers: all
output:
  progress: auto
  metrics_every_steps: 1
  trace: false
  mlflow: null
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
  CHECK(c.algorithm.worker == WorkerKind::host);
  CHECK(c.algorithm.own_momentum == 0.25);
  CHECK(c.algorithm.fresh == std::nullopt);
  CHECK(c.algorithm.overlap_from_epoch == 1.5);
  CHECK(c.algorithm.staleness_limit == 0.1);
  CHECK(c.algorithm.lambda == 0.04);
  CHECK(c.algorithm.lambda_until_epoch == 20.0);
  CHECK(c.algorithm.correction == CorrectionForm::rank_one);
  CHECK(c.algorithm.correction_bound == 0.3);
  CHECK(c.algorithm.workers_per_rank == 1);
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
  CHECK(c.comm.ranks_per_host == 4);
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
  CHECK(parse("{comm: {wire: int8, algorithm: auto}}").comm.wire == comm::Wire::int8);
  CHECK(parse("{comm: {wire: int4, algorithm: direct}}").comm.wire == comm::Wire::int4);
}

TEST_CASE("every word of a choice is accepted and printed as it was written") {
  const std::vector<std::pair<std::string, std::vector<std::string>>> choices = {
      {"model.convolution", {"auto", "direct"}},
      {"model.init_classifier", {"file", "new"}},
      {"data.format", {"synthetic", "cifar10", "cifar100", "idx"}},
      {"data.loader.on_bad_image", {"error", "skip"}},
      {"algorithm.name", {"dc_s3gd", "s3gd", "ssgd"}},
      {"algorithm.worker", {"rank", "host"}},
      {"algorithm.own_momentum", {"paper", "0"}},
      {"algorithm.fresh", {"auto", "0", "1"}},
      {"algorithm.correction", {"diagonal", "rank_one"}},
      {"algorithm.lambda_norm", {"global", "tensor"}},
      {"optimizer.lr.scaling", {"linear", "sqrt", "none"}},
      {"optimizer.lr.schedule", {"linear", "cosine", "step", "poly", "constant"}},
      {"comm.algorithm", {"ring", "direct", "halving_doubling", "hierarchical", "shared", "mpi", "auto"}},
      {"comm.wire", {"fp32", "bf16"}},
      {"checkpoint.workers", {"all", "average"}},
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

TEST_CASE("paths in a file pass no shell: ~ is the home folder in each") {
  const char* old = std::getenv("HOME");
  const std::string home = old != nullptr ? old : "";
  setenv("HOME", "/homes/me", 1);
  const Configuration c = parse(
      "run: {output_dir: ~/runs}\nmodel: {file: ~/net.yaml, init: \"~/w.safetensors\"}\n"
      "data: {format: image_folder, train: ~/train, eval: ~/val}\n");
  CHECK(c.run.output_dir == "/homes/me/runs");
  CHECK(c.model.file == "/homes/me/net.yaml");
  CHECK(c.model.init == "/homes/me/w.safetensors");
  CHECK(c.data.train == "/homes/me/train");
  CHECK(c.data.eval == "/homes/me/val");
  CHECK(parse("{}", {"run.output_dir=a/~/b"}).run.output_dir == "a/~/b");
  CHECK(parse("{}", {"run.output_dir=~root/b"}).run.output_dir.starts_with('/'));
  if (old != nullptr) setenv("HOME", home.c_str(), 1);
}

TEST_CASE("groups are entries with keys of their own, printed with all of them") {
  const std::string text =
      "{model: {freeze: [conv1, 'layer[12].*']}, "
      "optimizer: {groups: [{match: fc, lr_factor: 10}, {match: '*.bias', weight_decay: 0, frozen: false}]}}";
  const Configuration c = parse(text);
  REQUIRE(c.optimizer.groups.size() == 2);
  CHECK(c.optimizer.groups[0].match == "fc");
  CHECK(c.optimizer.groups[0].lr_factor == 10);
  CHECK(c.optimizer.groups[0].weight_decay == std::nullopt);
  CHECK(c.optimizer.groups[1].weight_decay == 0.0F);
  CHECK(c.model.freeze == std::vector<std::string>{"conv1", "layer[12].*"});
  CHECK(contains(to_lines(c), "optimizer.groups: [{match: fc, lr_factor: 10, weight_decay: null, frozen: false}, "));
  CHECK(to_lines(parse(to_yaml(c))) == to_lines(c));
  for (const char* wrong : {"{lr_factor: 2}", "fc", "{match: fc, lr_factor: 0}", "{match: fc, rate: 1}",
                            "{match: fc, match: conv1}", "{match: fc, frozen: yes}"}) {
    CAPTURE(wrong);
    CHECK(contains(problems(std::string("optimizer: {groups: [") + wrong + "]}"),
                   "optimizer.groups: must be a list [...], each entry {match: PATTERN, lr_factor: above 0, "));
  }
}

TEST_CASE("model.classes: auto is kept until the data are counted") {
  const std::string text = "model: {classes: auto}\ndata: {format: idx, train: a, eval: a}";
  const Configuration c = parse(text);
  CHECK(c.model.classes == ModelConfiguration::kClassesOfData);
  CHECK(contains(to_lines(c), "model.classes: auto\n"));
}
