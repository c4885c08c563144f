#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "app/config/configuration.h"
#include "app/model/listing_cache.h"
#include "comm/communicator.h"
#include "data/dataset.h"

/// How all ranks open a data set together.
namespace dcs3gd::app {

/// The data sets of a run, opened and checked.
struct Datasets {
  std::shared_ptr<const data::Dataset> train;
  std::shared_ptr<const data::Dataset> eval;
};

/// Collective: one part, opened on every rank. Files are listed by rank 0 alone, if it must at all; all others get its
/// listing, and one rank of each host compares it with what it sees. `seed`, `classes` and `class_names` as
/// data::open_dataset() takes them; `listing`: where one is there already. Throws what opening throws, on all ranks.
std::shared_ptr<const data::Dataset> open_dataset(const data::DataOptions& options, data::Part part, std::uint64_t seed,
                                                  int classes, comm::Communicator& communicator,
                                                  const std::vector<std::string>& class_names = {},
                                                  std::string listing = {});
/// Collective: both parts, with warnings about what is accepted and seldom meant. `class_names`: of the weights that
/// training goes on from; `listing`: of count_classes().
Datasets open_datasets(const Configuration& configuration, comm::Communicator& communicator,
                       const std::vector<std::string>& class_names = {}, std::string listing = {});

/// Warns of what is accepted and seldom meant: evaluation images that are trained on, outputs that stand for nothing.
void warn_of_data(const Datasets& datasets, int classes);

/// Of a run on so many ranks. Throws Error{input} if not even one global batch is there.
std::int64_t steps_per_epoch(const Configuration& configuration, int ranks, const data::Dataset& train);

/// What model.classes stands for.
struct ClassCount {
  int classes = 0;
  /// Of the training data, if they had to be listed, and that takes as long again; else empty.
  std::string listing = {};
};

/// Collective: the number that is configured or, for `auto`, the classes of the training data.
ClassCount count_classes(const Configuration& configuration, comm::Communicator& communicator);

/// Collective: the listing of a part's files, from the cache or made by rank 0; empty for data that are not listed.
std::string share_listing(const data::DataOptions& options, data::Part part,
                          const std::vector<std::string>& class_names, const ListingCache& cache,
                          comm::Communicator& communicator);

}  // namespace dcs3gd::app
