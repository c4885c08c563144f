#define DOCTEST_CONFIG_IMPLEMENT
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "comm/communicator.h"
#include "comm/launcher.h"
#include "core/aligned_buffer.h"
#include "core/format.h"
#include "core/random_stream.h"
#include "tests/comm/all_reduce_checks.h"

namespace dcs3gd::comm {
namespace {

/// MPI can be started once per process: all test cases share the world.
struct Session {
  Options options;
  bool large = false;
  bool can_share_memory = true;
  Communicator* communicator = nullptr;
};

Session& session() {
  static Session instance;
  return instance;
}

Communicator& world() { return *session().communicator; }
bool has_schedule() { return !find_algorithm(session().options.algorithm).is_native(); }

/// Ends the process when the tests take longer than the limit.
class Watchdog {
 public:
  explicit Watchdog(std::chrono::seconds limit) : thread_([this, limit] { watch(limit); }) {}
  ~Watchdog() {
    {
      const std::lock_guard lock(mutex_);
      finished_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

 private:
  void watch(std::chrono::seconds limit) {
    std::unique_lock lock(mutex_);
    if (changed_.wait_for(lock, limit, [&] { return finished_; })) return;
    std::fputs(format("rank {}: not done after {} s\n", world().rank(), limit.count()).c_str(), stderr);
    std::_Exit(1);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool finished_ = false;
  std::thread thread_;
};

TEST_CASE("the world is the one that mpirun started") {
  const std::optional<Launch> launch = find_launch([](const char* name) { return std::getenv(name); });
  REQUIRE(launch);
  const char* rank = std::getenv(launch->is_open_mpi() ? "OMPI_COMM_WORLD_RANK" : "PMI_RANK");
  REQUIRE(rank != nullptr);
  CHECK(world().size() == launch->ranks);
  CHECK(world().rank() == std::atoi(rank));
  CHECK(static_cast<int>(world().places().size()) == world().size());
}

TEST_CASE("every element of every length on both wires") {
  const auto ranks = static_cast<std::size_t>(world().size());
  const float average = 1.0F / static_cast<float>(ranks);
  for (const std::size_t floats : {std::size_t{0}, std::size_t{1}, ranks - 1, ranks, ranks + 1, std::size_t{1000},
                                   std::size_t{100003}, std::size_t{1000003}}) {
    for (const Wire wire : {Wire::fp32, Wire::bf16}) {
      if (wire == Wire::bf16 && !has_schedule()) continue;
      CHECK(check_all_reduce(world(), {.floats = floats, .tail = 3, .wire = wire, .factor = average}) == "");
      CHECK(check_all_reduce(world(), {.floats = floats, .tail = 0, .wire = wire, .factor = 1}) == "");
    }
  }
}

TEST_CASE("the result has the same bits on all ranks") {
  RandomStream random(3, RandomPurpose::test, static_cast<std::uint64_t>(world().rank()));
  std::vector<float> values(300007);
  for (const Wire wire : {Wire::fp32, Wire::bf16}) {
    if (wire == Wire::bf16 && !has_schedule()) continue;
    for (float& value : values) value = random.normal();
    world().plan_all_reduce({.values = values, .wire = wire}).start().wait();
    CHECK(check_same_bits(world(), values.data(), values.size() * sizeof(float)) == "");
  }
}

TEST_CASE("narrow wires: the same bits on all ranks, and over many steps all that was sent arrives") {
  constexpr int kSteps = 50;
  const auto rank = static_cast<float>(world().rank());
  const auto ranks = static_cast<float>(world().size());
  std::vector<float> values(300007);
  for (const Wire wire : {Wire::int8, Wire::int4}) {
    std::vector<float> losses(values.size());
    std::vector<float> arrived(values.size());
    AllReducePlan plan = world().plan_all_reduce(
        {.values = values, .wire = wire, .algorithm = &find_algorithm("hierarchical"), .losses = losses});
    for (int step = 0; step < kSteps; ++step) {
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = 0.01F * (rank + 1) + (i % 16 == 0 ? 1.0F : 0.0F);
      plan.start().wait();
      CHECK(check_same_bits(world(), values.data(), values.size() * sizeof(float)) == "");
      for (std::size_t i = 0; i < values.size(); ++i) arrived[i] += values[i];
    }
    // An element of which each step sends less than a half of the smallest number there is.
    CHECK(std::abs(arrived[1] - kSteps * 0.01F * (ranks + 1) / 2) < 0.2F);
  }
}

TEST_CASE("many all-reduces back to back, of random lengths") {
  RandomStream random(5, RandomPurpose::test);  // the same on all ranks
  constexpr int kRounds = 200;
  constexpr std::size_t kInFlight = 4;
  const int ranks = world().size();
  for (int round = 0; round < kRounds; ++round) {
    std::vector<std::vector<float>> buffers;
    for (std::size_t i = 0; i < kInFlight; ++i) {
      buffers.emplace_back(random.below(3000), static_cast<float>(world().rank() + round));
    }
    std::vector<Ticket> tickets;
    for (std::vector<float>& buffer : buffers) {
      tickets.push_back(world().plan_all_reduce({.values = buffer, .factor = 1}).start());
    }
    const auto expected = static_cast<float>(ranks * round + ranks * (ranks - 1) / 2);
    int wrong = 0;
    for (std::size_t i = 0; i < kInFlight; ++i) {
      tickets[i].wait();
      for (const float value : buffers[i]) wrong += value != expected;
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("memory is shared where all ranks can and shall, and averages are read in it") {
  const bool shares = session().options.algorithm == kSharedMemory && session().can_share_memory;
  CHECK((world().algorithm_for(100003) == kSharedMemory) == shares);
  const std::shared_ptr<float> memory = world().allocate(100003);
  {
    const AllReducePlan plan = world().plan_all_reduce({.values = {memory.get(), 100003}, .leaves_parts = true});
    CHECK((plan.algorithm() == kSharedMemory) == shares);
    const int here = world().ranks_here();
    const bool hosts_are_equal = here > 1 && here < world().size() && world().size() % here == 0;
    const bool shares_within_hosts =
        plan.algorithm() == "hierarchical" && hosts_are_equal && session().can_share_memory;
    CHECK((plan.parts().size() > 1) == (shares || shares_within_hosts));
  }
  for (const std::size_t floats : {std::size_t{0}, std::size_t{1}, std::size_t{1000}, std::size_t{1000003}}) {
    CHECK(check_all_reduce(world(), {.floats = floats, .tail = 3, .factor = 0.5F, .leaves_parts = true}) == "");
  }
}

TEST_CASE("a large plan and small ones in flight together") {
  const std::string finding = check_plans_in_flight(world());
  // MPI's own all-reduces run one after the other.
  CHECK(finding == (has_schedule() ? "" : "no small all-reduce has overtaken the large one"));
}

TEST_CASE("broadcast and all_gather") {
  for (const std::size_t length : {std::size_t{0}, std::size_t{1}, std::size_t{1000}, std::size_t{700001}}) {
    std::vector<unsigned char> bytes(length);
    const auto pattern = [](std::size_t i) { return static_cast<unsigned char>(i * 7 + 1); };
    if (world().rank() == 0) {
      for (std::size_t i = 0; i < length; ++i) bytes[i] = pattern(i);
    }
    world().broadcast(std::as_writable_bytes(std::span(bytes)));
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < length; ++i) wrong += bytes[i] != pattern(i);
    CHECK(wrong == 0);
  }
  const auto text_of = [](int rank) {
    return std::string(static_cast<std::size_t>(rank) * 5000, 'x') + format("{}", rank);
  };
  const std::vector<std::string> texts = world().all_gather(text_of(world().rank()));
  for (int rank = 0; rank < world().size(); ++rank) CHECK(texts[static_cast<std::size_t>(rank)] == text_of(rank));
  world().barrier();
}

TEST_CASE("MPI's own calls give the same sums") {
  constexpr std::size_t kFloats = 10007;
  for (const NativeCall call : {NativeCall::two_buffers, NativeCall::in_place, NativeCall::nonblocking}) {
    std::vector<float> source(kFloats, static_cast<float>(world().rank() + 1));
    std::vector<float> target(kFloats, static_cast<float>(world().rank() + 1));
    const std::optional<double> time_ms = world().time_native_all_reduce(call, source, target);
    CHECK(time_ms > 0);
    const int ranks = world().size();
    CHECK(target == std::vector<float>(kFloats, static_cast<float>(ranks * (ranks + 1) / 2)));
  }
}

TEST_CASE("more bytes than an int can count" * doctest::skip()) {
  constexpr std::size_t kBytes = (std::size_t{1} << 31) + 3;
  {
    AlignedBuffer<std::uint8_t> bytes(kBytes);
    const auto pattern = [](std::size_t i) { return static_cast<std::uint8_t>(i ^ (i >> 20)); };
    if (world().rank() == 0) {
      for (std::size_t i = 0; i < kBytes; ++i) bytes[i] = pattern(i);
    }
    world().broadcast(std::as_writable_bytes(bytes.span()));
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < kBytes; ++i) wrong += bytes[i] != pattern(i);
    CHECK(wrong == 0);
  }
  constexpr std::size_t kFloats = kBytes / sizeof(float) + 1;
  AlignedBuffer<float> values(kFloats);
  const auto pattern = [](std::size_t i) { return static_cast<float>(i % 1021); };
  for (std::size_t i = 0; i < kFloats; ++i) values[i] = pattern(i) + static_cast<float>(world().rank());
  world().plan_all_reduce({.values = values.span(), .factor = 1}).start().wait();
  std::size_t wrong = 0;
  const auto ranks = static_cast<float>(world().size());
  for (std::size_t i = 0; i < kFloats; ++i) wrong += values[i] != ranks * pattern(i) + ranks * (ranks - 1) / 2;
  CHECK(wrong == 0);
}

/// --segment-bytes=N, --algorithm=NAME, --ranks-per-host=N, --large, --no-memory-to-share
void read_arguments(int argc, char** argv) {
  constexpr std::string_view kSegmentBytes = "--segment-bytes=";
  constexpr std::string_view kAlgorithm = "--algorithm=";
  constexpr std::string_view kRanksPerHost = "--ranks-per-host=";
  session().options.algorithm = "ring";
  for (const std::string_view argument : std::span(argv, static_cast<std::size_t>(argc))) {
    if (argument.starts_with(kSegmentBytes)) {
      session().options.segment_bytes = std::stoul(std::string(argument.substr(kSegmentBytes.size())));
    }
    if (argument.starts_with(kAlgorithm)) session().options.algorithm = argument.substr(kAlgorithm.size());
    if (argument.starts_with(kRanksPerHost)) {
      session().options.ranks_per_host = std::stoi(std::string(argument.substr(kRanksPerHost.size())));
    }
    if (argument == "--large") session().large = true;
    if (argument == "--no-memory-to-share") session().can_share_memory = false;
  }
}

/// From now on the system does not let this process have it, as in a strict container.
void refuse_memory_to_share() {
  sock_filter filter[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                          BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_memfd_create, 0, 1),
                          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
                          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  const sock_fprog program{.len = std::size(filter), .filter = filter};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

int run(int argc, char** argv) {
  read_arguments(argc, argv);
  session().options.timeout_s = 60;
  const char* const rank = std::getenv("OMPI_COMM_WORLD_RANK");
  if (!session().can_share_memory && rank != nullptr && std::string_view(rank) == "1") refuse_memory_to_share();
  const auto communicator = Communicator::open(session().options);
  session().communicator = communicator.get();
  const Watchdog watchdog(session().large ? std::chrono::seconds(270) : std::chrono::seconds(90));
  doctest::Context tests(argc, argv);
  if (session().large) {
    tests.setOption("no-skip", true);
    tests.setOption("test-case", "more bytes*");
  }
  return tests.run();
}

}  // namespace
}  // namespace dcs3gd::comm

int main(int argc, char** argv) { return dcs3gd::comm::run(argc, argv); }
