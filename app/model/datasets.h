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
/// listing. `seed` and `classes` as data::open_dataset() takes them; `class_names`: of the training part, if that is
/// open already. Throws what opening throws, on all ranks.
std::shared_ptr<const data::Dataset> open_dataset(const data::DataOptions& options, data::Part part, std::uint64_t seed,
                                                  int classes, comm::Communicator& communicator,
                                                  const std::vector<std::string>& class_names = {});
/// Collective: both parts.
Datasets open_datasets(const Configuration& configuration, comm::Communicator& communicator);

/// Collective: the listing of a part's files, from the cache or made by rank 0; empty for data that are not listed.
std::string share_listing(const data::DataOptions& options, data::Part part, const ListingCache& cache,
                          comm::Communicator& communicator);

}  // namespace dcs3gd::app
