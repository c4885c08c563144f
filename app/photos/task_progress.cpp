#include "app/photos/task_progress.h"

#include <utility>

#include "app/record/progress.h"
#include "core/format.h"
#include "core/log.h"

namespace dcs3gd::app {
namespace {

constexpr double kStatusEvery_s = 0.1;
constexpr double kLineEvery_s = 10;
constexpr std::size_t kBarCells = 24;

}  // namespace

TaskProgress::TaskProgress(std::string verb, std::uint64_t images) : verb_(std::move(verb)), images_(images) {}

TaskProgress::~TaskProgress() { log::status(""); }

void TaskProgress::add(std::uint64_t images) {
  const std::lock_guard lock(mutex_);
  done_ += images;
  if (since_status_.elapsed_s() > kStatusEvery_s) {
    const std::size_t cells = kBarCells * done_ / images_;
    log::status(format("[{:<{}}] {}", std::string(cells, '='), kBarCells, line()));
    since_status_.restart_s();
  }
  const bool has_status = resolve_progress_style(ProgressStyle::automatic) == ProgressStyle::bar;
  if (!has_status && since_line_.elapsed_s() > kLineEvery_s) {
    log::info(line());
    since_line_.restart_s();
  }
}

std::string TaskProgress::line() const {
  const double elapsed_s = total_.elapsed_s();
  const double per_image_s = elapsed_s / static_cast<double>(done_);
  return format("{} image {}/{}  {:.0f} img/s  {} left", verb_, done_, images_, 1 / per_image_s,
                format_duration(per_image_s * static_cast<double>(images_ - done_)));
}

}  // namespace dcs3gd::app
