#include "app/record/run_folder.h"

#include <cerrno>
#include <filesystem>
#include <system_error>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "core/format.h"
#include "core/log.h"

namespace dcs3gd::app {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxHolderBytes = 512;

void create_folder(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) {
    throw Error(ErrorKind::input,
                format("cannot create the run folder {}: {}; choose another run.output_dir", path, error.message()));
  }
}

/// "process PID on HOST"
std::string this_process() {
  char host[256] = "an unknown host";
  ::gethostname(host, sizeof(host) - 1);
  return format("process {} on {}", ::getpid(), host);
}

std::string holder_of(const FileDescriptor& lock) {
  std::string text(kMaxHolderBytes, '\0');
  const ssize_t count = ::pread(lock.get(), text.data(), text.size(), 0);
  text.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
  return text.empty() ? "another process" : text;
}

/// Opens and locks the folder's lock file, and writes there who holds it.
FileDescriptor take_lock(const RunFolder& folder, const std::string& lock_path) {
  FileDescriptor lock(lock_path, O_RDWR | O_CREAT);
  if (!lock.is_open()) {
    throw Error(ErrorKind::input, format("cannot write to the run folder {}: {}; choose another run.output_dir",
                                         folder.path(), system_reason()));
  }
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) {
      throw Error(ErrorKind::input,
                  format("the run folder {} is in use by {}; wait for its end or choose another run.name",
                         folder.path(), holder_of(lock)));
    }
    log::warn(format("cannot lock {}: {}; see that no other run writes to it", lock_path, system_reason()));
  }
  const std::string holder = this_process();
  if (::ftruncate(lock.get(), 0) != 0 || !write_fully(lock.get(), std::as_bytes(std::span(holder)))) {
    log::warn(format("cannot write {}: {}", lock_path, system_reason()));
  }
  return lock;
}

/// Whether `path` still names the file that is open: it does not when its folder was renamed meanwhile.
bool is_at(const FileDescriptor& descriptor, const std::string& path) {
  struct stat opened {};
  struct stat named {};
  return ::fstat(descriptor.get(), &opened) == 0 && ::stat(path.c_str(), &named) == 0 &&
         opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

void set_aside(const RunFolder& folder) {
  std::string target;
  std::error_code error;
  for (int number = 1; target.empty() || fs::exists(target, error); ++number) {
    target = format("{}.{}", folder.path(), number);
  }
  fs::rename(folder.path(), target, error);
  if (error) {
    throw Error(ErrorKind::input,
                format("cannot rename the used run folder {} to {}: {}", folder.path(), target, error.message()));
  }
  log::info(format("renamed the used run folder {} to {}", folder.path(), target));
}

}  // namespace

RunFolder::RunFolder(const std::string& output_dir, const std::string& name)
    : path_((fs::path(output_dir) / name).lexically_normal().string()) {}

std::string RunFolder::log(int rank) const {
  return rank == 0 ? path_ + "/log.txt" : format("{}/log.rank{:04}.txt", path_, rank);
}

bool RunFolder::is_used() const {
  std::error_code ignored;
  for (const std::string& file : {metrics(), summary(), model(), best(), checkpoints()}) {
    if (fs::exists(file, ignored)) return true;
  }
  return false;
}

RunFolderClaim::RunFolderClaim(const RunFolder& folder, IfUsed if_used) {
  const std::string lock_path = folder.path() + "/.lock";
  while (true) {
    create_folder(folder.path());
    lock_ = take_lock(folder, lock_path);
    if (!is_at(lock_, lock_path)) continue;  // another process set the folder aside: claim the new one
    if (if_used == IfUsed::go_on || !folder.is_used()) return;
    if (if_used == IfUsed::refuse) {
      throw Error(ErrorKind::input,
                  format("the run folder {} holds the results of an earlier run; choose another run.name, or rename it "
                         "to {}.1 with --resume never",
                         folder.path(), folder.path()));
    }
    set_aside(folder);
  }
}

}  // namespace dcs3gd::app
