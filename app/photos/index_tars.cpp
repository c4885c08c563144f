#include "app/photos/index_tars.h"

#include <atomic>
#include <string>
#include <vector>

#include "app/job/parallel_tasks.h"
#include "core/files.h"
#include "core/format.h"
#include "core/log.h"
#include "data/photos/open_photos.h"
#include "data/photos/tar_shards.h"

namespace dcs3gd::app {
namespace {

void index_folder(const std::string& folder, int threads) {
  const std::vector<std::string> tars = data::list_tars(folder);
  std::atomic<std::uint64_t> images = 0;
  std::atomic<std::uint64_t> ignored = 0;
  std::atomic<std::uint64_t> kept = 0;
  run_tasks(tars.size(), threads, [&](std::uint64_t number) {
    const PositionedFile tar = open_file(tars[number]);
    data::TarSamples samples;
    if (data::read_tar_index(tar, samples).empty()) {
      ++kept;
    } else {
      samples = data::index_tar(tar);
      write_file_atomically(data::tar_index_path(tar.path()), data::tar_index_file(tar, samples));
    }
    images += samples.index.records.size();
    ignored += samples.ignored;
    if (const std::string problem = data::dotted_labels_problem(samples); !problem.empty()) {
      log::warn(format("{}: {}", tar.path(), problem));
    }
  });
  log::info(format("{}: {} images in {} tar files, {} other files passed over; {} indices there before", folder,
                   images.load(), tars.size(), ignored.load(), kept.load()));
}

}  // namespace

void index_tars(const std::string& path, int threads) {
  for (const std::string& folder : data::part_folders(path).all()) index_folder(folder, threads);
}

}  // namespace dcs3gd::app
