#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/files.h"

/// What a run says to programs: metrics.jsonl, one JSON object a line with stable keys, and summary.json. The structs
/// below are the lines; a member's name is its key, and they stand in the order of the line after "event". Numbers are
/// written so that reading them gives the same number. NaN and Inf are no JSON: where a number is one of them, or does
/// not apply (λ of ssgd), the line has null.
namespace dcs3gd::app {

/// First line of a run, and of each of its resumptions.
struct StartEvent {
  std::string version;
  std::string command;             ///< the command line
  std::string config_hash;         ///< of the effective configuration
  std::vector<std::string> hosts;  ///< one per rank
  int ranks = 1;
  int workers = 1;
  int threads = 1;                                          ///< per rank
  std::string isa;                                          ///< instruction set in use, such as "avx512_core"
  std::int64_t parameters = 0;                              ///< learned numbers of the model
  double fresh_share = 0;                                   ///< of the parameters: never stale
  std::int64_t all_reduce_bytes = 0;                        ///< per step and rank, on the wire's format
  std::optional<std::int64_t> resumed_from = std::nullopt;  ///< step of the checkpoint
};

struct StepEvent {
  std::int64_t step = 0;   ///< 1-based
  std::int64_t epoch = 0;  ///< the epoch it belongs to, 1-based
  double loss = 0;         ///< mean over workers
  double lr = 0;
  double grad_norm = 0;
  double lambda = 0;
  double distance_norm = 0;
  double staleness_price = 0;      ///< S: loss at the workers' weights that is not there at the mean model
  double staleness_sharpness = 0;  ///< ρ: learning rate times curvature along the workers' distances
  double images_per_s = 0;         ///< all workers
  double step_ms = 0;              ///< the whole step with its batch; without evaluations and checkpoints
  double compute_ms = 0;
  double all_reduce_ms = 0;
  double wait_ms = 0;           ///< all-reduce time not hidden
  double overlap = 0;           ///< 1 − wait / all_reduce
  double data_wait_ms = 0;      ///< until the loader had the step's batches
  std::int64_t bad_images = 0;  ///< that the loaders of all ranks have passed over so far, in batches made ahead too
};

struct EvalEvent {
  std::int64_t step = 0;
  std::int64_t epoch = 0;
  double top1 = 0;  ///< 0 … 1
  double top5 = 0;  ///< 0 … 1
  double loss = 0;
  std::int64_t images = 0;
};

struct CheckpointEvent {
  std::int64_t step = 0;
  std::int64_t epoch = 0;
  std::string path;    ///< as written, relative to the run folder
  double wall_s = 0;   ///< until it was there
  double stall_s = 0;  ///< of it, what training stood still for
};

/// Last line of a run; also summary.json.
struct EndEvent {
  std::string status;  ///< a word or two, such as "done" or "diverged"
  int exit_code = 0;
  std::optional<double> best_top1 = std::nullopt;  ///< none without an evaluation
  std::optional<double> final_top1 = std::nullopt;
  double wall_s = 0;
  double images_per_s = 0;       ///< mean over the run's training steps
  double wall_images_per_s = 0;  ///< the same images over wall_s, with evaluations and checkpoints
  std::string why = "";          ///< a run is done before its last step; no key otherwise
};

using Event = std::variant<StartEvent, StepEvent, EvalEvent, CheckpointEvent, EndEvent>;

/// The event as one line of JSON, without the newline.
std::string to_json_line(const Event& event);

/// Appends events to metrics.jsonl, a line each, as AppendedFile does. Not thread-safe.
class MetricsWriter {
 public:
  /// Throws Error{failure} if the file cannot be opened.
  explicit MetricsWriter(std::string path);

  void write(const Event& event);

 private:
  AppendedFile file_;
};

/// Takes back the lines of steps after `step`, and a line that was not finished, so that a run that continues from
/// there has each step once. Reads the file from its end, as far as that takes. It appears whole or stays as it was;
/// nothing is done without one. Throws Error.
void rewind_metrics(const std::string& path, std::int64_t step);

/// Writes summary.json atomically. Throws Error{failure} if it cannot.
void write_summary(const std::string& path, const EndEvent& event);
/// The status in it; empty if there is none.
std::string read_status(const std::string& path);

}  // namespace dcs3gd::app
