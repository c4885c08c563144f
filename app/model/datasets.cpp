#include "app/model/datasets.h"

#include <functional>
#include <optional>
#include <span>

#include "app/job/agreement.h"
#include "core/error.h"
#include "core/format.h"
#include "core/log.h"
#include "core/stopwatch.h"
#include "data/formats.h"
#include "data/photos/photo_dataset.h"

namespace dcs3gd::app {
namespace {

/// Rank 0 tells the waiting ranks this often that it is still listing: far within any comm.timeout_s.
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
  if (data::format_of(options).files != data::FormatInfo::Files::listed) return listing;
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

std::shared_ptr<const data::Dataset> open_dataset(const data::DataOptions& options, data::Part part, std::uint64_t seed,
                                                  int classes, comm::Communicator& communicator,
                                                  const std::vector<std::string>& class_names) {
  const std::string listing = share_listing(options, part, user_listing_cache(), communicator);
  std::shared_ptr<const data::Dataset> dataset;
  agree(communicator, [&] { dataset = data::open_dataset(options, part, seed, classes, listing, class_names); });
  return dataset;
}

Datasets open_datasets(const Configuration& configuration, comm::Communicator& communicator) {
  const std::uint64_t seed = configuration.run.seed;
  const int classes = configuration.model.classes;
  Datasets datasets;
  datasets.train = open_dataset(configuration.data, data::Part::train, seed, classes, communicator);
  datasets.eval =
      open_dataset(configuration.data, data::Part::eval, seed, classes, communicator, datasets.train->class_names());
  return datasets;
}

}  // namespace dcs3gd::app
