#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "app/rules/options.h"
#include "comm/options.h"
#include "nn/kernels/precision.h"

/// The benchmarks of dcs3gd-bench: each measures beside the limit that physics or the rival sets, and prints, as JSON
/// one object a line.
namespace dcs3gd::app {

struct NnBenchOptions {
  std::string model = "resnet50";
  int batch = 32;
  nn::Precision precision = nn::Precision::fp32;
  bool evaluate = false;  ///< evaluation, as --eval and dcs3gd-predict run it, instead of training
  bool direct = false;    ///< as model.convolution: direct
  int threads = 0;        ///< 0: all that OpenMP offers
  int image_size = 0;     ///< 0: the model's own, 224, 32 or 28 pixels
  int steps = 10;         ///< measured, after two that warm up
  bool json = false;
};

/// `dcs3gd-bench nn`: whole training steps (forward, loss, backward, optimizer) or evaluations on random images against
/// the time that the convolutions and linear layers alone need, taken in turn. Throws Error{input} for options that
/// cannot be.
void bench_nn(const NnBenchOptions& options);

/// Floats of the smallest array that is measured.
inline constexpr std::size_t kSmallestCommSize = 1024;

struct CommBenchOptions {
  comm::Options comm;                 ///< algorithm and wire are not looked at: all are measured
  std::size_t max_floats = 25557032;  ///< the largest array: ResNet-50
  double seconds_per_size = 5;        ///< decides on the number of repetitions
  bool update = false;                ///< measures the algorithms with the update of a synchronous step
  bool json = false;                  ///< one object a line instead of a table
};

/// `dcs3gd-bench comm`: the time of an all-reduce by size, on the ranks of this job: each algorithm of ours in
/// every wire, start to end as the caller sees it through the progress thread, beside the bare calls of MPI
/// (MPI_Allreduce with two buffers and in place, MPI_Iallreduce and waiting). The kinds take turns, so that a
/// disturbance hits all of them. A repetition counts as its slowest rank. Rank 0 prints. Throws Error when a rank is
/// lost.
void bench_comm(const CommBenchOptions& options);

struct StepBenchOptions {
  std::string model = "resnet50";
  int batch = 16;      ///< per worker
  int image_size = 0;  ///< pixels; 0: the model's own
  std::string algorithm = "dc_s3gd";
  double fresh = *recommended_algorithm().fresh;  ///< as algorithm.fresh
  std::string wire = "fp32";
  int threads = 0;       ///< per rank; 0: as in training with run.threads auto
  int rounds = 4;        ///< of some steps with communication and as many without
  int steps = 3;         ///< that count in a round; more where ranks are to drift apart
  double pause_ms = 0;   ///< of every step, as if it computed longer
  double jitter = 0;     ///< and on average this part of the pause more, by chance (exponentially distributed)
  double slow_rank = 1;  ///< rank 0 pauses this many times as long
  bool json = false;
};

/// `dcs3gd-bench step`, under mpirun: training steps with and without communication in turn, on all ranks at the same
/// time, so that what communication costs is measured against computing under the same load. Ranks that pause show what
/// random delays and a slow neighbour cost a rule, without taking the cores from each other. Rank 0 prints.
void bench_step(const StepBenchOptions& options);

/// A kind of network, by what others measured on one.
struct NetworkPreset {
  std::string_view name;
  double gbit_s;
  double latency_us;
  const char* source;  ///< of the latency
};
std::span<const NetworkPreset> network_presets();

struct ScaleBenchOptions {
  std::string model = "resnet50";
  int batch = 16;               ///< per rank
  int image_size = 0;           ///< pixels; 0: the model's own
  int threads = 0;              ///< of the measured steps; 0: as in training with run.threads auto
  int steps = 20;               ///< measured
  double compute_ms = 0;        ///< of every step, instead of the measured ones; 0: those
  double pause_ms = 0;          ///< before every step, as if it waited for its images
  double jitter = 0;            ///< on average this part of a step longer, by chance (exponentially distributed)
  double straggler_share = 0;   ///< of all steps of all ranks that take …
  double straggler_factor = 1;  ///< … so many times as long
  double slow_rank = 1;         ///< and all those of rank 0
  std::string network;          ///< the name of a preset; empty: measured on the ranks of this job
  // Given, they overrule what is measured or preset.
  std::optional<double> latency_us = {};
  std::optional<double> gbit_s = {};
  std::optional<double> message_us = {};  ///< of a rank's progress thread for each message that comes
  std::optional<double> sum_gb_s = {};    ///< of summing, counted in what comes
  double buffer_kib = 0;                  ///< that the system takes from a rank at once, such as a socket's buffer
  std::string algorithm = "ring";
  double fresh = 0.9;                             ///< of dc_s3gd_fresh
  std::vector<double> bits = {32, 16, 8.5, 4.5};  ///< of a float on the wire
  std::vector<int> ranks = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 10000};
  int predicted_steps = 20;  ///< after four that warm up
  int replay_ranks = 8;      ///< up to so many ranks every message is followed
  bool json = false;
};

/// `dcs3gd-bench scale`: predicts time, overlap and throughput of a step on many ranks, one rank a host, from steps
/// measured here (their distribution, drawn anew for every rank and step) and a network measured or given. Few ranks
/// are replayed message by message; of many, an all-reduce is replayed alone by one rank's lists, and takes that time
/// from when its last rank has come, on a link that all all-reduces of a step share (app/rules/step_model.h). Rank 0
/// prints. Throws Error{input} where no network is known.
void bench_scale(const ScaleBenchOptions& options);

struct UpdateBenchOptions {
  std::size_t floats = 25557032;  ///< of the model: ResNet-50
  int repetitions = 20;
  bool json = false;
};

/// `dcs3gd-bench update`: the update rule of DC-S3GD (norms, λ, correction, momentum, mean model) on this machine's
/// OpenMP team, against the time that the bytes it must touch take at the bandwidth of the triad a = b + s·c, measured
/// in turn.
void bench_update(const UpdateBenchOptions& options);

struct LoaderBenchOptions {
  std::string data;      ///< an image folder or a folder of shards
  int threads = 1;       ///< that decode
  int image_size = 224;  ///< pixels
  double seconds = 5;    ///< of measuring
  bool json = false;
};

/// `dcs3gd-bench loader`: what a loader thread does for a photo (fetch, decode, RandomResizedCrop, flip, normalise),
/// beside libjpeg-turbo and stb_image alone decoding the same files whole, from memory, in turn on the same threads.
void bench_loader(const LoaderBenchOptions& options);

}  // namespace dcs3gd::app
