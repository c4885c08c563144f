// What grows with the number of ranks, with ranks as threads: messages and bytes that a rank sends, and seconds.
//   growth RANKS...

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "app/checkpoint/checkpoint_writer.h"
#include "app/job/agreement.h"
#include "app/job/rank_report.h"
#include "app/model/confusion.h"
#include "comm/placement.h"
#include "comm/thread_world.h"
#include "core/stopwatch.h"
#include "nn/network.h"
#include "tests/comm/counting_transport.h"

namespace dcs3gd::app {
namespace {

void run(int ranks, const std::string& folder) {
  std::filesystem::remove_all(folder);
  std::vector<comm::Traffic> traffic(static_cast<std::size_t>(ranks));
  std::vector<comm::Traffic> before(traffic.size());
  const auto layout =
      std::make_shared<const ParameterLayout>(std::vector<ParameterSlice>{{.name = "w", .shape = {100}}});
  const auto body = [&](comm::Communicator& communicator) {
    const auto own = static_cast<std::size_t>(communicator.rank());
    /// Rank 0 prints what a part of a run has sent.
    const auto measure = [&](const char* name, const std::function<void()>& part) {
      communicator.barrier();
      before[own].messages = traffic[own].messages.load();
      before[own].bytes = traffic[own].bytes.load();
      const Stopwatch watch;
      part();
      const double seconds = watch.elapsed_s();
      before[own].messages = traffic[own].messages - before[own].messages;
      before[own].bytes = traffic[own].bytes - before[own].bytes;
      communicator.barrier();
      if (own > 0) return;
      std::uint64_t messages = 0;
      std::uint64_t bytes = 0;
      for (const comm::Traffic& rank : before) {
        messages += rank.messages;
        bytes += rank.bytes;
      }
      std::printf("%5d  %-12s %9.1f messages and %9.0f bytes a rank  %7.3f s\n", ranks, name,
                  static_cast<double>(messages) / ranks, static_cast<double>(bytes) / ranks, seconds);
      std::fflush(stdout);
    };
    measure("barrier", [&] { communicator.barrier(); });
    measure("start", [&] {
      communicator.all_gather(comm::pack(comm::find_own_place()));
      communicator.gather(0);
      expect_same(communicator, ErrorKind::input, "configuration", std::string(4000, 'x'), "");
      communicator.from_rank_0(std::string(4000, 'x'));
      agree(communicator, std::nullopt);
      gather_rank_uses(communicator, 1);
    });
    measure("evaluation", [&] { communicator.gather(nn::BatchResult()); });
    Confusion confusion(10);
    confusion.add({.images = {}, .labels = {3}, .count = 1}, std::vector<float>(10));
    measure("confusion", [&] { confusion.sum(communicator); });
    measure("predictions", [&] { communicator.gather_at_rank_0(std::string(1000, 'x')); });
    ParameterArena update(layout);
    ParameterArena statistics(layout);
    CheckpointWriter writer(communicator, folder, 1);
    CheckpointContent content{.mean_model = update,
                              .mean_statistics = statistics,
                              .local_statistics = statistics,
                              .frozen = statistics,
                              .state = {},
                              .model_metadata = {}};
    content.state.workers = {{{"update", &update, OnResize::average}}};
    measure("checkpoint", [&] {
      writer.begin({}, checkpoint_files(communicator.rank(), content));
      writer.wait(600);
      writer.advance();
      writer.wait(600);
      writer.advance();
    });
  };
  comm::run_ranks_as_threads(ranks, {}, body, [&](std::unique_ptr<comm::Transport> inner) {
    return std::make_unique<comm::CountingTransport>(std::move(inner), traffic);
  });
}

}  // namespace
}  // namespace dcs3gd::app

int main(int argc, char** argv) {
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / "dcs3gd-growth";
  for (int i = 1; i < argc; ++i) dcs3gd::app::run(std::atoi(argv[i]), folder.string());
  std::filesystem::remove_all(folder);
  return 0;
}
