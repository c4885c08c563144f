#include "tests/app/workers.h"

#include <algorithm>
#include <cmath>

#include <omp.h>

#include "comm/thread_world.h"
#include "core/random_stream.h"

namespace dcs3gd::app::test {

Batches::Batches(const nn::Graph& graph, int images_per_batch, int workers, std::int64_t steps)
    : images_per_batch_(images_per_batch),
      workers_(workers),
      floats_per_batch_(static_cast<std::size_t>(images_per_batch * graph.shape(graph.input()).element_count())),
      images_(static_cast<std::size_t>(steps * workers) * floats_per_batch_),
      labels_(static_cast<std::size_t>(steps * workers * images_per_batch)) {
  RandomStream random(7, RandomPurpose::test);
  const auto classes = static_cast<std::uint32_t>(graph.shape(graph.output()).channels);
  std::ranges::generate(images_, [&] { return random.normal(); });
  std::ranges::generate(labels_, [&] { return static_cast<std::int32_t>(random.below(classes)); });
}

std::size_t Batches::place(std::int64_t step, int worker) const {
  return static_cast<std::size_t>(step * workers_ + worker);
}

nn::BatchView Batches::at(std::int64_t step, int worker) const {
  const std::size_t number = place(step, worker);
  return {images_.data() + number * floats_per_batch_,
          labels_.data() + number * static_cast<std::size_t>(images_per_batch_), images_per_batch_};
}

float& Batches::first_pixel(std::int64_t step, int worker) { return images_[place(step, worker) * floats_per_batch_]; }

Rank::Rank(const Experiment& experiment, comm::Communicator& communicator)
    : experiment_(experiment),
      communicator_(communicator),
      network_(experiment.graph, {.batch = experiment.images_per_batch / experiment.algorithm.micro_batches}),
      mean_model_(network_.parameter_layout()),
      mean_statistics_(network_.statistics_layout()),
      statistics_(network_.statistics_layout()) {
  ParameterArena weights(network_.parameter_layout());
  nn::initialize(experiment.graph, 1, weights, statistics_.local());
  ParameterArena frozen(network_.frozen_layout());
  nn::initialize(experiment.graph, 1, frozen);
  if (experiment.initialize) {
    experiment.initialize(weights, statistics_.local());
    if (!frozen.values().empty()) experiment.initialize(frozen, statistics_.local());
  }
  network_.set_frozen(frozen);
  rule_ = make(std::move(weights));
}

std::unique_ptr<UpdateRule> Rank::make(ParameterArena weights) {
  return make_rule({communicator_, network_, statistics_},
                   {.algorithm = experiment_.algorithm,
                    .sgd = experiment_.sgd,
                    .wire = experiment_.wire,
                    .loss_limit = experiment_.loss_limit,
                    .overlap_from_step = experiment_.overlap_from_step},
                   std::move(weights));
}

void Rank::restart_from_state() {
  const RuleState saved = rule_->state();
  std::unique_ptr<UpdateRule> fresh = make(mean_model_.copy());
  const RuleState state = fresh->state();
  const auto fill = [](const std::vector<StateArray>& from, const std::vector<StateArray>& to) {
    for (std::size_t i = 0; i < from.size(); ++i)
      std::ranges::copy(from[i].values->values(), to[i].values->values().begin());
  };
  fill(saved.shared, state.shared);
  fill(saved.rank, state.rank);
  for (std::size_t k = 0; k < saved.workers.size(); ++k) fill(saved.workers[k], state.workers[k]);
  for (std::size_t i = 0; i < saved.numbers.size(); ++i) *state.numbers[i].value = *saved.numbers[i].value;
  fresh->state_loaded(Restored::all);
  rule_ = std::move(fresh);
}

std::vector<std::string> Rank::gather_bytes(std::span<const std::byte> bytes) {
  return communicator_.all_gather({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

void Rank::step(std::int64_t step) {
  rule_->compute_gradients(step, [this] {
    const int workers_here = experiment_.algorithm.workers_per_rank;
    const std::int64_t number = batches_++;
    return experiment_.batch(number / workers_here, number_of_first_worker() + static_cast<int>(number % workers_here));
  });
  if (const auto report = rule_->receive()) reports_.push_back(*report);
  rule_->update_and_send(experiment_.learning_rate(step), {});
}

int Rank::number_of_first_worker() const { return communicator_.rank() * experiment_.algorithm.workers_per_rank; }

std::vector<float> Rank::drain() {
  for (const StepReport& report : rule_->drain()) reports_.push_back(report);
  rule_->copy_mean_model(mean_model_);
  return drained();
}

std::vector<float> Rank::average_statistics() {
  statistics_.average(communicator_, mean_statistics_);
  return {mean_statistics_.values().begin(), mean_statistics_.values().end()};
}

void Rank::use_network() {
  network_.set_weights(mean_model_);
  statistics_.average(communicator_, mean_statistics_);
  network_.set_running_statistics(mean_statistics_);
  network_.evaluate(experiment_.batch(0, 0));
}

void run_ranks(const Experiment& experiment, const std::function<void(Rank&)>& body) {
  const std::string algorithm = comm::is_narrow(experiment.wire) ? "direct" : experiment.all_reduce;
  comm::run_ranks_as_threads(
      experiment.ranks, {.algorithm = algorithm, .wire = experiment.wire, .ranks_per_host = experiment.ranks_per_host},
      [&](comm::Communicator& communicator) {
        omp_set_num_threads(1);
        Rank rank(experiment, communicator);
        body(rank);
      });
}

std::vector<Trajectory> run(const Experiment& experiment, Look look) {
  std::vector<Trajectory> trajectories(static_cast<std::size_t>(experiment.ranks));
  run_ranks(experiment, [&](Rank& rank) {
    Trajectory& trajectory = trajectories[static_cast<std::size_t>(rank.number())];
    for (std::int64_t step = 0; step < experiment.steps; ++step) {
      rank.step(step);
      if (look == Look::at_the_end && step + 1 < experiment.steps) continue;
      trajectory.mean_models.push_back(rank.drain());
      if (look != Look::after_each_step_and_use_the_network) continue;
      rank.use_network();
      rank.rule().load_network();
    }
    trajectory.mean_statistics = rank.average_statistics();
    rank.drain();
    trajectory.reports = rank.reports();
  });
  return trajectories;
}

double relative_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0;
  double size = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
    size += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(difference / size);
}

}  // namespace dcs3gd::app::test
