#include "app/train/fresh_plan.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "app/model/random_batch.h"
#include "app/rules/fresh_part.h"
#include "app/rules/table.h"
#include "core/format.h"
#include "core/log.h"

namespace dcs3gd::app {
namespace {

constexpr std::size_t kAllReduces = 3;

/// Of a step on random images.
StepProfile profile_step(const Configuration& configuration, const comm::Communicator& communicator, Model& model) {
  const AlgorithmOptions& algorithm = configuration.algorithm;
  const RandomBatch batch(algorithm.images_per_pass(), model.graph.shape(model.graph.input()), model.network.classes(),
                          static_cast<std::uint64_t>(communicator.rank()));
  model.network.set_weights(model.weights);
  StepProfile profile = profile_passes(model.network, batch.view());
  // A step of several passes needs the weights in its first and has the gradients in its last one.
  const double before_ms = profile.compute_ms * (algorithm.workers_per_rank * algorithm.micro_batches - 1);
  for (SliceTimes& times : profile.slices) times.ready_ms += before_ms;
  profile.compute_ms += before_ms;
  return profile;
}

}  // namespace

double measure_all_reduce_ms(const Configuration& configuration, comm::Communicator& communicator, std::size_t floats) {
  if (communicator.size() == 1) return 0;
  const std::shared_ptr<float> memory = communicator.allocate(floats);
  const std::span values(memory.get(), floats);
  comm::AllReducePlan plan =
      communicator.plan_all_reduce({.values = values, .leaves_parts = true, .wire = configuration.comm.wire});
  std::array<double, kAllReduces> times_ms{};
  for (double& time_ms : times_ms) {
    communicator.barrier();
    time_ms = plan.start().wait().all_reduce_ms;
  }
  std::ranges::sort(times_ms);
  return times_ms[kAllReduces / 2];
}

double plan_fresh_share(const Configuration& configuration, comm::Communicator& communicator, Model& model) {
  if (configuration.algorithm.fresh) return *configuration.algorithm.fresh;
  if (communicator.size() == 1) return 1;
  StepProfile profile = profile_step(configuration, communicator, model);
  const std::size_t floats = model.network.parameter_layout()->element_count();
  const double one_ms = measure_all_reduce_ms(configuration, communicator, 1);
  const double all_ms = measure_all_reduce_ms(configuration, communicator, floats);
  profile.latency_ms = one_ms;
  profile.ms_per_element = std::max(0.0, all_ms - one_ms) / static_cast<double>(floats);
  const double mine = hidden_fresh_share(model.weights.layout(), profile);
  // The rank whose link hides the least decides: all wait for it.
  const double share = std::ranges::min(communicator.gather(mine));
  if (communicator.rank() == 0) {
    const std::size_t first = first_fresh_slice(model.weights.layout(), share);
    log::info(
        format("algorithm.fresh: auto is {:.4f}: of a step of {:.1f} ms the link, with {:.1f} ms for all parameters, "
               "hides {}",
               share, profile.compute_ms, all_ms,
               first < model.weights.layout().slices().size()
                   ? "all from " + model.weights.layout().slices()[first].name + " on"
                   : std::string("nothing but stale updates")));
  }
  return share;
}

}  // namespace dcs3gd::app
