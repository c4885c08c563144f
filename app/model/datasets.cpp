#include "app/model/datasets.h"

#include <algorithm>
#include <span>
#include <utility>

#include "app/job/agreement.h"
#include "core/error.h"
#include "core/format.h"
#include "core/log.h"
#include "data/formats.h"
#include "data/photos/photo_dataset.h"
#include "data/sampler.h"

namespace dcs3gd::app {
namespace {

/// Evaluation images that are training images too: more is no accident.
constexpr double kMaxSharedImages = 0.01;

std::string find_or_make_listing(const data::DataOptions& options, data::Part part,
                                 const std::vector<std::string>& class_names, const ListingCache& cache,
                                 const SignOfLife& on_file) {
  const data::FolderState state = data::files_state(options, part, class_names);
  std::string listing = cache.find(state);
  if (!listing.empty()) {
    const std::string problem = data::listing_problem(options, part, listing);
    if (problem.empty()) return listing;
    log::info(format("{}; {} is listed anew", problem, state.folder));
  }
  listing = data::list_files(options, part, class_names, on_file);
  if (data::may_be_kept(options, listing)) cache.keep(state, listing);
  return listing;
}

/// Whether this is the first rank of its host.
bool speaks_for_host(const comm::Communicator& communicator) {
  const auto first = std::ranges::find(communicator.places(), communicator.host(), &comm::RankPlace::host);
  return first - communicator.places().begin() == communicator.rank();
}

}  // namespace

std::string share_listing(const data::DataOptions& options, data::Part part,
                          const std::vector<std::string>& class_names, const ListingCache& cache,
                          comm::Communicator& communicator) {
  std::string listing;
  if (data::format_of(options).files != data::FormatInfo::Files::listed) return listing;
  agree_on_rank_0(
      communicator, part == data::Part::train ? "listing the training data" : "listing the evaluation data",
      [&](const SignOfLife& on_file) { listing = find_or_make_listing(options, part, class_names, cache, on_file); });
  return communicator.from_rank_0(listing);
}

std::shared_ptr<const data::Dataset> open_dataset(const data::DataOptions& options, data::Part part, std::uint64_t seed,
                                                  int classes, comm::Communicator& communicator,
                                                  const std::vector<std::string>& class_names, std::string listing) {
  if (listing.empty()) listing = share_listing(options, part, class_names, user_listing_cache(), communicator);
  std::shared_ptr<const data::Dataset> dataset;
  agree(communicator, [&] {
    if (!listing.empty() && speaks_for_host(communicator)) {
      const std::string problem = data::listing_problem(options, part, listing);
      if (!problem.empty()) throw Error(ErrorKind::input, format("{}; let all hosts see the same files", problem));
    }
    dataset = data::open_dataset(options, part, seed, classes, listing, class_names);
  });
  return dataset;
}

void warn_of_data(const Datasets& datasets, int classes) {
  const data::Dataset& train = *datasets.train;
  for (const data::Dataset* dataset : {&train, datasets.eval.get()}) {
    if (!dataset->warning().empty()) log::warn(format("{}: {}", dataset->description(), dataset->warning()));
  }
  if (train.classes_found() < classes) {
    log::warn(
        format("model.classes is {}, the training data have {} classes: {} of the model's outputs stand for nothing; "
               "set model.classes: {}, or auto",
               classes, train.classes_found(), classes - train.classes_found(), train.classes_found()));
  }
  const std::uint32_t shared = data::count_shared(train, *datasets.eval);
  if (shared > kMaxSharedImages * datasets.eval->size()) {
    log::warn(format(
        "{} of the {} evaluation images seem to be training images too: the accuracy will say little about other "
        "images; name others in data.eval",
        shared, datasets.eval->size()));
  }
}

Datasets open_datasets(const Configuration& configuration, comm::Communicator& communicator,
                       const std::vector<std::string>& class_names, std::string listing) {
  const std::uint64_t seed = configuration.run.seed;
  const int classes = configuration.model.classes;
  Datasets datasets;
  datasets.train =
      open_dataset(configuration.data, data::Part::train, seed, classes, communicator, class_names, std::move(listing));
  datasets.eval =
      open_dataset(configuration.data, data::Part::eval, seed, classes, communicator, datasets.train->class_names());
  if (communicator.rank() == 0) warn_of_data(datasets, classes);
  return datasets;
}

std::int64_t steps_per_epoch(const Configuration& configuration, int ranks, const data::Dataset& train) {
  const AlgorithmOptions& algorithm = configuration.algorithm;
  return data::Sampler({.workers_per_rank = algorithm.workers_per_rank,
                        .workers = algorithm.workers_per_rank * ranks,
                        .batch_per_worker = algorithm.batch_per_worker},
                       train.size(), configuration.data.shuffle)
      .steps_per_epoch();
}

ClassCount count_classes(const Configuration& configuration, comm::Communicator& communicator) {
  if (configuration.model.classes != ModelConfiguration::kClassesOfData) return {configuration.model.classes};
  const data::DataOptions& options = configuration.data;
  ClassCount count;
  count.listing = share_listing(options, data::Part::train, {}, user_listing_cache(), communicator);
  count.classes =
      open_dataset(options, data::Part::train, configuration.run.seed, kMaxClasses, communicator, {}, count.listing)
          ->classes_found();
  // An image folder's depends on what the labels mean, which a checkpoint says later; if it is long it is kept.
  if (options.format == "image_folder") count.listing.clear();
  return count;
}

}  // namespace dcs3gd::app
