#pragma once

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "app/config/configuration.h"
#include "core/error.h"

/// What the tests of configurations share: texts that are read, or refused, and what is printed of them.
namespace dcs3gd::test {

inline app::Configuration parse(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return app::parse_configuration({.file_name = "some/tiny.yaml", .text = text, .overrides = overrides});
}

/// The message of the error; empty if there is none.
inline std::string problems(const std::string& text, const std::vector<std::string>& overrides = {}) {
  try {
    app::parse_configuration({.file_name = "f", .text = text, .overrides = overrides});
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    return error.what();
  }
  return "";
}

/// The YAML without its comments.
inline std::string plain(const app::Configuration& configuration) {
  std::istringstream yaml(app::to_yaml(configuration));
  std::string plain;
  for (std::string line; std::getline(yaml, line);) {
    line.resize(std::min(line.size(), line.find("  # ")));
    plain += line.substr(0, line.find_last_not_of(' ') + 1) + '\n';
  }
  return plain;
}

/// Every key with another value than its default, as far as this version supports one.
inline constexpr const char* kAllKeys = R"(
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
algorithm: {name: ssgd, lambda0: +0.3, lambda_norm: tensor, lambda_max: 17, workers_per_rank: 1,
            worker: host, own_momentum: 0.25, fresh: auto, overlap_from_epoch: 1.5, staleness_limit: 0.1, lambda: 0.04,
            lambda_until_epoch: 20, correction: rank_one, correction_bound: 0.3, batch_per_worker: 64,
            label_smoothing: 0.1, gradient_clip_norm: 2.5}
optimizer:
  momentum: 0.95
  nesterov: true
  weight_decay: 1e-5
  decay_norm_and_bias: true
  lr: {base: 5e-4, scaling: sqrt, reference_batch: 256, warmup_epochs: 2.5, warmup_start: 1e-06, schedule: step,
       milestones: [10, 20.5], gamma: 0.2, power: 3, final: 0.001}
comm: {algorithm: mpi, ranks_per_host: 4, segment_bytes: 65536, core: 0, timeout_s: 0.5}
checkpoint: {every_epochs: null, every_steps: 100, every_minutes: 7.5, keep: 1, workers: average}
output: {progress: none, metrics_every_steps: 10}
)";

}  // namespace dcs3gd::test
