// A world in which everything goes wrong, as a function of a number: whole training runs with ranks as threads, whose
// messages are late and out of order, whose ranks die or fall silent, whose storage fails or stalls, whose process gets
// signals and whose system clock is set by years. A run is started again until it is done; then its model must be, bit
// for bit, that of the undisturbed run.
//
//   adverse_world [FIRST_SEED [SEEDS [FOLDER]]]     default: 1, 100, a temporary folder
//
// Every launch must end: done, stopped with exit code 75 after a checkpoint, or with an Error{failure}. What fails is
// printed with the line that replays it. Faults are bound to counts (the third write to that file, the 57th message of
// that rank), not to times, so a seed means the same on any machine but for the order in which threads run, on which no
// result may depend.
//
// The calls for files are those of our own code: the linker hands them to the __wrap_ functions below (--wrap). The
// system's clock is read through the C library by all, whose functions for it are replaced.

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/syscall.h>
#include <unistd.h>

#include "app/checkpoint/checkpoint_files.h"
#include "app/checkpoint/checkpoint_manifest.h"
#include "app/job/exit_code.h"
#include "app/job/stop_signals.h"
#include "core/error.h"
#include "core/format.h"
#include "core/log.h"
#include "core/random_stream.h"
#include "tests/app/run_as_threads.h"
#include "tests/support/temporary_folder.h"

namespace fs = std::filesystem;

using namespace dcs3gd;
using namespace dcs3gd::app;

namespace {

// --- storage
// ----------------------------------------------------------------------------------------------------------

/// A call for a file of the run: the `count`-th of its kind on that path.
struct FileCall {
  std::string kind;  ///< open, write, fsync, rename
  std::string path;  ///< below the run folder
  int count = 0;

  auto operator<=>(const FileCall&) const = default;
};

enum class Harm { none, fails, fails_from_now_on, stalls, strikes };

/// What the calls below do, for the launch that runs.
class Storage {
 public:
  /// Counts from nothing in this folder; `at` suffers `harm`, or is the moment of `strike`.
  void begin(const std::string& folder, Harm harm, const FileCall& at, std::function<void()> strike) {
    const std::lock_guard lock(mutex_);
    folder_ = folder + "/";
    harm_ = harm;
    at_ = at;
    strike_ = std::move(strike);
    is_broken_ = false;
    has_failed_ = false;
    counts_.clear();
    calls_.clear();
  }

  /// Whether the call fails.
  bool fails(const std::string& kind, const std::string& path) {
    std::unique_lock lock(mutex_);
    if (folder_.empty() || !path.starts_with(folder_)) return false;
    const std::string name = settled(path.substr(folder_.size()));
    const FileCall call{kind, name, ++counts_[kind + " " + name]};
    calls_.insert(call);
    const bool is_hit = harm_ != Harm::none && call == at_;
    if (is_hit && (harm_ == Harm::stalls || harm_ == Harm::strikes)) {
      const std::function<void()> strike = harm_ == Harm::strikes ? strike_ : stall;
      lock.unlock();
      strike();
      return false;
    }
    has_failed_ = has_failed_ || is_hit;
    is_broken_ = is_broken_ || (is_hit && harm_ == Harm::fails_from_now_on);
    return is_hit || is_broken_;
  }

  void opened(int descriptor, const std::string& path) {
    const std::lock_guard lock(mutex_);
    paths_[descriptor] = path;
  }
  std::string path_of(int descriptor) {
    const std::lock_guard lock(mutex_);
    const auto found = paths_.find(descriptor);
    return found == paths_.end() ? "" : found->second;
  }

  std::set<FileCall> calls() {
    const std::lock_guard lock(mutex_);
    return calls_;
  }
  /// Whether a call has failed.
  bool has_failed() {
    const std::lock_guard lock(mutex_);
    return has_failed_;
  }

 private:
  static void stall() { std::this_thread::sleep_for(std::chrono::milliseconds(50)); }

  /// Temporary names have random ends.
  static std::string settled(std::string path) {
    const std::size_t end = path.rfind(".tmp");
    if (end != std::string::npos && path.find('/', end) == std::string::npos) path.resize(end + 4);
    return path;
  }

  std::mutex mutex_;
  // Guarded by mutex_.
  std::string folder_;
  Harm harm_ = Harm::none;
  FileCall at_;
  std::function<void()> strike_;
  bool is_broken_ = false;
  bool has_failed_ = false;
  std::map<std::string, int> counts_;
  std::set<FileCall> calls_;
  std::map<int, std::string> paths_;
};

Storage storage;

/// By which the system's clock is ahead.
std::atomic<std::int64_t> clock_offset_s = 0;

int no_space() {
  errno = ENOSPC;
  return -1;
}

}  // namespace

extern "C" {
int __real_open(const char* path, int flags, mode_t mode);
ssize_t __real_write(int descriptor, const void* bytes, std::size_t count);
int __real_fsync(int descriptor);
int __real_rename(const char* from, const char* to);

int __wrap_open(const char* path, int flags, ...) {
  std::va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  const bool writes = (flags & (O_WRONLY | O_RDWR)) != 0;
  if (writes && storage.fails("open", path)) return no_space();
  const int descriptor = __real_open(path, flags, mode);
  if (descriptor >= 0) storage.opened(descriptor, writes ? path : "");
  return descriptor;
}
ssize_t __wrap_write(int descriptor, const void* bytes, std::size_t count) {
  return storage.fails("write", storage.path_of(descriptor)) ? no_space() : __real_write(descriptor, bytes, count);
}
int __wrap_fsync(int descriptor) {
  return storage.fails("fsync", storage.path_of(descriptor)) ? no_space() : __real_fsync(descriptor);
}
int __wrap_rename(const char* from, const char* to) {
  return storage.fails("rename", to) ? no_space() : __real_rename(from, to);
}

int clock_gettime(clockid_t clock, timespec* time) noexcept {
  const auto result = static_cast<int>(::syscall(SYS_clock_gettime, clock, time));
  if (result == 0 && clock == CLOCK_REALTIME) time->tv_sec += clock_offset_s;
  return result;
}
std::time_t time(std::time_t* result) noexcept {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  if (result != nullptr) *result = now.tv_sec;
  return now.tv_sec;
}
}

namespace {

// --- the network
// ------------------------------------------------------------------------------------------------------

struct Weather {
  std::uint64_t seed = 0;
  bool delays = false;
  int dying_rank = -1;       ///< throws at `message`
  int silent_rank = -1;      ///< sends and receives nothing from `message` on
  std::int64_t message = 0;  ///< number of its sends
};

/// Finishes messages late and in another order, and ends its rank when its time has come.
class AdverseTransport final : public comm::Transport {
 public:
  AdverseTransport(std::unique_ptr<Transport> inner, const Weather& weather)
      : inner_(std::move(inner)),
        weather_(weather),
        random_(weather.seed + static_cast<std::uint64_t>(inner_->rank()), RandomPurpose::test) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }

  Request start_send(int to, int tag, std::span<const std::byte> bytes) override {
    ++sends_;
    if (rank() == weather_.dying_rank && sends_ >= weather_.message) throw std::runtime_error("a rank dies");
    if (is_silent()) return kNever;
    return inner_->start_send(to, tag, bytes);
  }
  Request start_receive(int from, int tag, std::span<std::byte> bytes) override {
    return is_silent() ? kNever : inner_->start_receive(from, tag, bytes);
  }
  bool test(Request request) override {
    if (request == kNever || is_silent()) return false;
    if (weather_.delays && random_.below(4) > 0) {
      if (random_.below(64) == 0) std::this_thread::sleep_for(std::chrono::microseconds(random_.below(500)));
      return false;
    }
    return inner_->test(request);
  }
  void throw_if_broken() override { inner_->throw_if_broken(); }
  void abort(int exit_code, const std::string& reason) override { inner_->abort(exit_code, reason); }

 private:
  static constexpr Request kNever = ~Request{0};
  bool is_silent() const { return rank() == weather_.silent_rank && sends_ >= weather_.message; }

  std::unique_ptr<Transport> inner_;
  Weather weather_;
  RandomStream random_;
  std::int64_t sends_ = 0;
};

// --- runs
// -------------------------------------------------------------------------------------------------------------

/// Two epochs of four steps with all that is random, an evaluation after each and a checkpoint after every other step.
constexpr const char* kRun = R"(
run: {epochs: 2, threads: 1}
model: {name: resnet8, classes: 4}
data: {format: synthetic, image_size: 8, channels: 1, synthetic: {train_images: 64, eval_images: 9},
       augment: {random_crop_padding: 1, horizontal_flip: true, mixup: 0.4}}
algorithm: {batch_per_worker: 4}
optimizer: {lr: {base: 0.02, reference_batch: 8, warmup_epochs: 1}}
checkpoint: {every_steps: 2, every_minutes: 60, keep: 2}
output: {progress: none}
)";
constexpr double kTimeoutS = 2;  // where a rank falls silent
constexpr double kLimitMinutes = 60;
constexpr std::int64_t kSlurmLimitS = 600;
constexpr std::int64_t kYearS = 365 * 86400;
constexpr int kMostLaunches = 4;

/// What does not change from launch to launch.
struct Job {
  int ranks = 1;
  std::vector<std::string> overrides;

  auto operator<=>(const Job&) const = default;
};

/// What goes wrong in one launch.
struct Trouble {
  Weather weather;
  Harm harm = Harm::none;
  FileCall at;
  // What strikes at `at`, or when `rank` is asked for the `asked`-th time whether it wants to stop.
  int signal = 0;
  std::int64_t jump_s = 0;  ///< of the system's clock
  int rank = 0;
  std::int64_t asked = 0;
  bool all_ranks_get_it = false;  ///< the signal, else `rank` alone
  bool in_slurm = false;          ///< whose end of time is told by the system's clock

  bool may_stop() const { return signal != 0 || (in_slurm && jump_s > 0); }

  std::string describe() const {
    std::string text = weather.delays ? "late messages" : "prompt messages";
    if (weather.dying_rank >= 0) text += format(", rank {} dies at send {}", weather.dying_rank, weather.message);
    if (weather.silent_rank >= 0)
      text += format(", rank {} is silent from send {}", weather.silent_rank, weather.message);
    constexpr const char* kHarms[] = {"", "fails", "and all after it fail", "stalls", ""};
    const std::string call = format("{} {} of {}", at.kind, at.count, at.path);
    if (harm != Harm::none && harm != Harm::strikes) text += format(", {} {}", call, kHarms[static_cast<int>(harm)]);
    if (signal == 0 && jump_s == 0) return text;
    text += harm == Harm::strikes ? format(", at {}", call) : format(", when rank {} is asked {} times", rank, asked);
    if (signal != 0) text += format(" {} to {}", strsignal(signal), all_ranks_get_it ? "all" : format("rank {}", rank));
    if (jump_s != 0) text += format(" the clock jumps by {} s{}", jump_s, in_slurm ? ", in Slurm" : "");
    return text;
  }
};

enum class End { done, stopped, failed };

/// What has struck so far.
struct Tally {
  std::map<End, int> ends;
  int launches = 0;
  std::atomic<int> signals = 0;
  std::atomic<int> jumps = 0;
};

/// Any exception that is no Error{failure} comes out.
End launch(const Job& job, const std::string& output_dir, const Trouble& trouble, Tally& tally) {
  std::vector<std::string> overrides = job.overrides;
  overrides.push_back("run.output_dir=" + output_dir);
  Configuration configuration = parse_configuration({.file_name = "run.yaml", .text = kRun, .overrides = overrides});
  if (trouble.weather.silent_rank >= 0) configuration.comm.timeout_s = kTimeoutS;
  const auto strike = [&](const std::function<void()>& send_signal) {
    clock_offset_s += trouble.jump_s;
    if (trouble.jump_s != 0) ++tally.jumps;
    if (trouble.signal == 0) return;
    ++tally.signals;
    send_signal();
  };
  storage.begin(RunFolder(output_dir, configuration.run.name).path(), trouble.harm, trouble.at,
                [&] { strike([&] { ::kill(::getpid(), trouble.signal); }); });

  const std::string slurm_end = format("{:.0f}", TimeLimit::system_clock_s() + kSlurmLimitS);
  const TimeLimit time_limit(kLimitMinutes,
                             [&](const char*) { return trouble.in_slurm ? slurm_end.c_str() : nullptr; });
  StopSignals signals(false);
  signals.set_patience(configuration.comm.timeout_s, time_limit.killed_in_s());
  std::int64_t asked = 0;
  const auto prepare = [&](const comm::Communicator& communicator, RunStart& start) {
    const bool is_struck = communicator.rank() == trouble.rank;
    if (is_struck) start.signals = &signals;
    start.stop_wanted = [&, is_struck] {
      if (is_struck && ++asked == trouble.asked && trouble.harm != Harm::strikes) {
        strike([&] { std::raise(trouble.signal); });
      }
      return (is_struck || trouble.all_ranks_get_it) && (signals.received() || time_limit.is_up());
    };
  };
  const auto wrap = [&](std::unique_ptr<comm::Transport> inner) -> std::unique_ptr<comm::Transport> {
    return std::make_unique<AdverseTransport>(std::move(inner), trouble.weather);
  };
  try {
    const RunEnd end = run_as_threads(configuration, job.ranks, ResumeMode::automatic, prepare, wrap);
    const bool struck_while_asked = trouble.signal != 0 && trouble.harm != Harm::strikes;
    if (struck_while_asked && asked > trouble.asked + 1) throw std::logic_error("a signal was not heeded");
    return end == RunEnd::stopped ? End::stopped : End::done;
  } catch (const Error& error) {
    // What cannot be written at the start is an error of input: nothing was started.
    if (error.kind() == ErrorKind::diverged || (error.kind() == ErrorKind::input && !storage.has_failed())) throw;
  } catch (const std::runtime_error& error) {
    if (std::string(error.what()) != "a rank dies") throw;
  }
  return End::failed;
}

// --- what must come out
// -----------------------------------------------------------------------------------------------

std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The losses of all steps by their number.
using Losses = std::map<std::int64_t, double>;

struct Outcome {
  std::string model;
  std::string best;
  Losses losses;
};

Outcome outcome_in(const std::string& folder) {
  Outcome outcome{.model = content_of(folder + "/model.safetensors"),
                  .best = content_of(folder + "/best.safetensors"),
                  .losses = {}};
  std::ifstream metrics(folder + "/metrics.jsonl");
  for (std::string line; std::getline(metrics, line);) {
    const auto event = nlohmann::json::parse(line);
    if (event.at("event") != "step") continue;
    const bool is_new = outcome.losses.emplace(event.at("step"), event.at("loss")).second;
    if (!is_new) throw std::runtime_error(format("step {} stands in metrics.jsonl twice", event.at("step").dump()));
  }
  return outcome;
}

/// What is wrong; empty if nothing is. Where storage failed, lines of metrics.jsonl may be lost, and the best model.
std::string difference(const Outcome& found, const Outcome& expected, bool storage_failed) {
  if (found.model != expected.model) return "another final model";
  // Where it was lost, it is chosen anew.
  if (!storage_failed && found.best != expected.best) return "another best model";
  for (const auto& [step, loss] : found.losses) {
    const auto there = expected.losses.find(step);
    if (there == expected.losses.end() || there->second != loss) return format("another loss at step {}", step);
  }
  if (!storage_failed && found.losses.size() != expected.losses.size()) {
    return format("{} steps in metrics.jsonl, expected {}", found.losses.size(), expected.losses.size());
  }
  return "";
}

/// What is wrong with a run that was stopped; empty if nothing is.
std::string expect_stopped(const RunFolder& folder, bool storage_failed) {
  const std::vector<std::int64_t> steps = checkpoint_steps(folder.checkpoints());
  if (steps.empty()) return "stopped without a checkpoint";
  const std::string newest = format("{}/{}/{}", folder.checkpoints(), checkpoint_name(steps.front()), kManifestFile);
  if (parse_manifest(content_of(newest)).position.step != steps.front()) return "another step in its manifest";
  if (storage_failed) return "";
  const auto summary = nlohmann::json::parse(content_of(folder.summary()));
  return summary.at("exit_code") == kExitStopped ? "" : "stopped with another exit code";
}

/// A job undisturbed: what comes out, the calls for files and the sends of a rank on the way.
struct Reference {
  Outcome outcome;
  std::vector<FileCall> calls;
};

const Reference& reference_of(const Job& job, const std::string& folder) {
  static std::map<Job, Reference> references;
  if (const auto found = references.find(job); found != references.end()) return found->second;
  const std::string output_dir = format("{}/reference-{}", folder, references.size());
  Tally ignored;
  clock_offset_s = 0;
  if (launch(job, output_dir, {}, ignored) != End::done) throw std::runtime_error("the undisturbed run does not end");
  const std::set<FileCall> calls = storage.calls();
  return references[job] = {outcome_in(output_dir + "/run"), {calls.begin(), calls.end()}};
}

Job draw_job(RandomStream& random) {
  const std::vector<std::vector<std::string>> rules{
      {"algorithm.name=dc_s3gd"}, {"algorithm.name=ssgd"}, {"algorithm.name=dc_s3gd", "algorithm.fresh=0.75"}};
  Job job{.ranks = 1 + static_cast<int>(random.below(4)), .overrides = rules[random.below(3)]};
  const std::uint32_t wire = random.below(4);
  if (wire == 1) job.overrides.emplace_back("comm.wire=bf16");
  if (wire > 1) job.overrides.insert(job.overrides.end(), {"comm.wire=int4", "comm.algorithm=auto"});
  return job;
}

Trouble draw_trouble(const Job& job, const Reference& reference, RandomStream& random) {
  const auto a_rank = [&] { return static_cast<int>(random.below(static_cast<std::uint32_t>(job.ranks))); };
  Trouble trouble;
  trouble.weather = {.seed = random.below(1U << 31), .delays = random.below(2) == 0};
  trouble.weather.message = 1 + random.below(400);
  trouble.rank = a_rank();
  trouble.asked = 1 + random.below(8);
  trouble.in_slurm = random.below(2) == 0;
  if (random.below(4) == 0)
    trouble.jump_s = std::array{-kYearS, -kSlurmLimitS, std::int64_t{5}, kSlurmLimitS, kYearS}[random.below(5)];
  switch (random.below(8)) {
    case 0:
    case 1:
      trouble.weather.dying_rank = a_rank();
      return trouble;
    case 2:
      // Rarely: it takes as long as the time-out.
      if (job.ranks > 1 && random.below(4) == 0) trouble.weather.silent_rank = a_rank();
      return trouble;
    case 3:
    case 4:
    case 5:
      trouble.signal = std::array{SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU}[random.below(6)];
      trouble.all_ranks_get_it = random.below(3) == 0;
      if (random.below(2) == 0) return trouble;
      trouble.harm = Harm::strikes;
      break;
    default:
      trouble.harm = std::array{Harm::fails, Harm::fails_from_now_on, Harm::stalls}[random.below(3)];
  }
  trouble.at = reference.calls[random.below(static_cast<std::uint32_t>(reference.calls.size()))];
  return trouble;
}

/// Returns what is wrong; empty if nothing is.
std::string run_seed(std::uint64_t seed, const std::string& folder, std::vector<std::string>& told, Tally& tally) {
  RandomStream random(seed, RandomPurpose::test);
  const Job job = draw_job(random);
  const Reference& reference = reference_of(job, folder);
  told.push_back(format("{} ranks, {}", job.ranks, fmt::join(job.overrides, " ")));
  const std::string output_dir = format("{}/seed-{}", folder, seed);
  bool storage_failed = false;
  clock_offset_s = 0;
  for (int number = 1;; ++number) {
    if (number > kMostLaunches + 1) return "the last launch, undisturbed, did not finish the run";
    const Trouble trouble = number > kMostLaunches ? Trouble() : draw_trouble(job, reference, random);
    told.push_back(format("launch {}: {}", number, trouble.describe()));
    const End end = launch(job, output_dir, trouble, tally);
    ++tally.launches;
    ++tally.ends[end];
    storage_failed = storage_failed || storage.has_failed();
    if (end == End::done) break;
    const bool may_fail = trouble.weather.dying_rank >= 0 || trouble.weather.silent_rank >= 0 || storage.has_failed();
    if (end == End::failed && !may_fail) return "failed for no reason";
    if (end == End::stopped && !trouble.may_stop()) return "stopped unasked";
    if (end != End::stopped) continue;
    const std::string wrong = expect_stopped(RunFolder(output_dir, "run"), storage.has_failed());
    if (!wrong.empty()) return wrong;
  }
  const std::string wrong = difference(outcome_in(output_dir + "/run"), reference.outcome, storage_failed);
  fs::remove_all(output_dir);
  return wrong;
}

int run_seeds(std::uint64_t first, std::uint64_t count, const std::string& folder, std::FILE* report) {
  Tally tally;
  int findings = 0;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    std::vector<std::string> told;
    std::string wrong;
    try {
      wrong = run_seed(seed, folder, told, tally);
    } catch (const std::exception& error) {
      wrong = error.what();
    }
    if (wrong.empty()) continue;
    ++findings;
    std::fprintf(report, "adverse_world %llu 1: %s\n", static_cast<unsigned long long>(seed), wrong.c_str());
    for (const std::string& line : told) std::fprintf(report, "  %s\n", line.c_str());
    std::fflush(report);
  }
  std::fprintf(
      report,
      "%llu seeds, %d launches: %d done, %d stopped, %d failed; %d signals, %d jumps of the clock; %d findings\n",
      static_cast<unsigned long long>(count), tally.launches, tally.ends[End::done], tally.ends[End::stopped],
      tally.ends[End::failed], tally.signals.load(), tally.jumps.load(), findings);
  return findings == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t first = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1;
  const std::uint64_t count = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 100;
  std::signal(SIGHUP, SIG_DFL);  // under nohup it is ignored
  std::FILE* report = fdopen(dup(STDOUT_FILENO), "w");
  if (count > 1) {
    // The log of one seed is of use, that of many hides the findings.
    const int nowhere = ::open("/dev/null", O_WRONLY);
    dup2(nowhere, STDOUT_FILENO);
    dup2(nowhere, STDERR_FILENO);
  }
  const test::TemporaryFolder temporary;
  const int exit_code = run_seeds(first, count, argc > 3 ? argv[3] : temporary.path().string(), report);
  std::fclose(report);
  return exit_code;
}
