#include "app/model/datasets.h"

#include <functional>
#include <optional>
#include <span>

#include "app/job/agreement.h"
#include "core/error.h"
#include "core/format.h"
#include "core/log.h"
#include "core/stopwatch.h"

namespace dcs3gd::app {
namespace {

/// Ranks that wait for a listing hear of it this often: far within any comm.timeout_s.
constexpr double kSignOfLifeS = 0.2;
constexpr const char* kStillListing = "still listing";

std::string find_or_make_listing(const data::DataOptions& options, data::Part part, const ListingCache& cache,
                                 const std::function<void()>& on_file) {
  const data::FolderState state = data::files_state(options, part);
  std::string listing = cache.find(state);
  if (!listing.empty()) {
    const std::string problem = data::listing_problem(options, part, listing);
    if (problem.empty()) return listing;
    log::info(format("{}; {} is listed anew", problem, state.folder));
  }
  listing = data::list_files(options, part, on_file);
  cache.keep(state, listing);
  return listing;
}

}  // namespace

std::string share_listing(const data::DataOptions& options, data::Part part, const ListingCache& cache,
                          comm::Communicator& communicator) {
  std::string listing;
  if (!data::lists_files(options)) return listing;
  std::optional<Error> error;
  if (communicator.rank() == 0) {
    Stopwatch silence;
    error = attempt([&] {
      listing = find_or_make_listing(options, part, cache, [&] {
        if (silence.elapsed_s() < kSignOfLifeS) return;
        communicator.from_rank_0(kStillListing);
        silence.restart_s();
      });
    });
    communicator.from_rank_0("");
  } else {
    while (communicator.from_rank_0("") == kStillListing) {
    }
  }
  agree(communicator, error);
  return communicator.from_rank_0(listing);
}

std::shared_ptr<const data::Dataset> open_dataset(const Configuration& configuration, data::Part part,
                                                  comm::Communicator& communicator) {
  const std::string listing = share_listing(configuration.data, part, user_listing_cache(), communicator);
  std::shared_ptr<const data::Dataset> dataset;
  agree(communicator, [&] {
    dataset =
        data::open_dataset(configuration.data, part, configuration.run.seed, configuration.model.classes, listing);
  });
  return dataset;
}

Datasets open_datasets(const Configuration& configuration, comm::Communicator& communicator) {
  Datasets datasets;
  datasets.train = open_dataset(configuration, data::Part::train, communicator);
  datasets.eval = open_dataset(configuration, data::Part::eval, communicator);
  return datasets;
}

}  // namespace dcs3gd::app
