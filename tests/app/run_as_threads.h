#pragma once

#include <functional>

#include <omp.h>

#include "app/job/agreement.h"
#include "app/train/resume.h"
#include "app/train/trainer.h"
#include "comm/thread_world.h"
#include "core/error.h"

namespace dcs3gd::app {

/// What `dcs3gd-train` does, ranks as threads; those left go on when one dies (comm::RankDies). `prepare` is told of
/// each rank's start before its trainer is built.
inline RunEnd run_as_threads(
    const Configuration& configuration, int ranks, ResumeMode mode,
    const std::function<void(const comm::Communicator&, RunStart&)>& prepare = [](const auto&, auto&) {},
    const comm::WrapTransport& wrap = std::identity()) {
  const RunFolder folder(configuration.run.output_dir, configuration.run.name);
  RunFolderClaim claim(folder, IfUsed::go_on);
  RunEnd end = RunEnd::done;
  const auto run_here = [&](comm::Communicator& communicator) {
    RunStart start{.card = model_card(configuration), .command = "run_as_threads"};
    start.checkpoint = find_checkpoint(communicator, folder, mode, "");
    if (start.checkpoint) expect_continuable(*start.checkpoint, configuration);
    if (start.checkpoint && is_finished(folder, *start.checkpoint, configuration.run)) return;
    prepare(communicator, start);
    Trainer trainer(configuration, open_datasets(configuration, communicator), communicator, folder, start);
    const RunEnd own_end = trainer.train(communicator.rank() == 0 ? &claim : nullptr);
    if (communicator.rank() == 0) end = own_end;
  };
  const auto run_rank = [&](comm::Communicator& communicator) {
    omp_set_num_threads(1);
    const auto error = attempt_without_lost(communicator, [&] { run_here(communicator); });
    if (error) throw Error(*error);
  };
  comm::run_ranks_as_threads(ranks, configuration.comm, run_rank, wrap);
  return end;
}

}  // namespace dcs3gd::app
