#include "app/record/run_folder.h"

#include <cerrno>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <optional>
#include <random>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/job/agreement.h"
#include "core/error.h"
#include "core/format.h"
#include "core/helper_thread.h"
#include "core/log.h"

namespace dcs3gd::app {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxLockBytes = 1024;
constexpr std::chrono::duration<double> kBeat{5};
constexpr std::string_view kGivenBack = "given back\n";
constexpr std::chrono::duration<double> kPatience{5};  // with network file systems that show files late

void create_folder(const std::string& path) {
  if (const auto error = attempt([&] { create_folders_durably(path); })) {
    throw Error(ErrorKind::input, format("the run folder {}: {}; choose another run.output_dir", path, error->what()));
  }
}

/// "process PID on HOST since TIME", with a number that tells processes of equal words apart.
std::string this_process() {
  char host[256] = "an unknown host";
  ::gethostname(host, sizeof(host) - 1);
  char time[64] = "";
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  std::strftime(time, sizeof(time), "%F %T UTC", ::gmtime_r(&now, &utc));
  return format("process {} on {} since {} ({:08x})", ::getpid(), host, time, std::random_device()());
}

/// The text of a lock file, and its first line: who holds it.
struct LockText {
  std::string all;
  std::string holder() const { return all.substr(0, all.find('\n')); }
  bool is_given_back() const { return all.empty() || all.ends_with(kGivenBack); }
};

LockText read_lock(const FileDescriptor& lock) {
  LockText text{std::string(kMaxLockBytes, '\0')};
  const ssize_t count = ::pread(lock.get(), text.all.data(), text.all.size(), 0);
  text.all.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
  return text;
}

/// In place of what stood there, so that other hosts see it, and so that at no moment nothing stands there.
bool write_lock(const FileDescriptor& lock, const std::string& text) {
  return ::lseek(lock.get(), 0, SEEK_SET) == 0 && write_fully(lock.get(), std::as_bytes(std::span(text))) &&
         ::ftruncate(lock.get(), static_cast<off_t>(text.size())) == 0 && ::fsync(lock.get()) == 0;
}

/// What the holder of a lock wrote: waits a moment for a holder that has just taken it and has not written yet.
LockText read_holder(const FileDescriptor& lock) {
  constexpr int kTries = 100;
  constexpr auto kPause = std::chrono::milliseconds(20);
  LockText text = read_lock(lock);
  for (int tries = 1; text.is_given_back() && tries < kTries; ++tries) {
    std::this_thread::sleep_for(kPause);
    text = read_lock(lock);
  }
  if (text.is_given_back()) text.all.clear();
  return text;
}

[[noreturn]] void refuse_as_used(const RunFolder& folder, const LockText& text) {
  throw Error(ErrorKind::input, format("the run folder {} is in use by {}; wait for its end or choose another run.name",
                                       folder.path(), text.all.empty() ? "another process" : text.holder()));
}

/// Where files cannot be locked: waits whether the holder gives a sign of life, and whether somebody else comes at the
/// same time.
void take_without_lock(const RunFolder& folder, const FileDescriptor& lock, const std::string& holder) {
  log::warn(format("cannot lock {}: {}; watching it for {:.0f} s instead", folder.lock(), system_reason(),
                   3 * kBeat.count()));
  const LockText before = read_lock(lock);
  std::this_thread::sleep_for(before.is_given_back() ? std::chrono::duration<double>(0) : 3 * kBeat);
  if (const LockText now = read_lock(lock); now.all != before.all) refuse_as_used(folder, now);
  write_lock(lock, holder + "\n");
  std::this_thread::sleep_for(kBeat / 5);
  if (const LockText now = read_lock(lock); now.holder() != holder) refuse_as_used(folder, now);
}

/// Opens and locks the folder's lock file, and writes there who holds it. Not open if the folder went away meanwhile.
FileDescriptor take_lock(const RunFolder& folder, const std::string& holder) {
  FileDescriptor lock(folder.lock(), O_RDWR | O_CREAT | O_NOFOLLOW);
  if (!lock.is_open() && errno == ENOENT) return lock;
  if (!lock.is_open()) {
    throw Error(ErrorKind::input, format("cannot write to the run folder {}: {}; choose another run.output_dir",
                                         folder.path(), errno == ELOOP ? ".lock is a link" : system_reason()));
  }
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) refuse_as_used(folder, read_holder(lock));
    take_without_lock(folder, lock, holder);
  }
  if (!write_lock(lock, holder + "\n")) log::warn(format("cannot write {}: {}", folder.lock(), system_reason()));
  return lock;
}

/// Whether `path` still names the file that is open: it does not when its folder was renamed meanwhile.
bool is_at(const FileDescriptor& descriptor, const std::string& path) {
  struct stat opened {};
  struct stat named {};
  return ::fstat(descriptor.get(), &opened) == 0 && ::stat(path.c_str(), &named) == 0 &&
         opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

/// A temporary name of AtomicFile: NAME.1a2b3c4d.tmp.
bool is_unfinished(const std::string& name) {
  constexpr std::size_t kDigits = 8;
  if (!name.ends_with(kUnfinishedSuffix)) return false;
  const std::size_t end = name.size() - std::string_view(kUnfinishedSuffix).size();
  return end > kDigits && name[end - kDigits - 1] == '.' &&
         name.substr(end - kDigits, kDigits).find_first_not_of("0123456789abcdef") == std::string::npos;
}

/// What a crash left under temporary names.
void remove_unfinished(const RunFolder& folder) {
  std::error_code error;
  std::vector<fs::path> left;
  for (fs::directory_iterator entry(folder.path(), error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (is_unfinished(name) && !entry->is_directory(error)) left.push_back(entry->path());
  }
  for (const fs::path& path : left) fs::remove(path, error);
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

RunFolderClaim::RunFolderClaim(const RunFolder& folder, IfUsed if_used)
    : folder_(folder.path()), path_(folder.lock()), holder_(this_process()) {
  while (true) {
    create_folder(folder.path());
    lock_ = take_lock(folder, holder_);
    if (!is_at(lock_, path_)) continue;  // another process set the folder aside, or removed it: claim the new one
    if (if_used == IfUsed::go_on || !folder.is_used()) break;
    if (if_used == IfUsed::refuse) {
      throw Error(ErrorKind::input,
                  format("the run folder {} holds the results of an earlier run; choose another run.name, or rename it "
                         "to {}.1 with --resume never",
                         folder.path(), folder.path()));
    }
    set_aside(folder);
  }
  remove_unfinished(folder);
  heart_ = std::jthread([this](const std::stop_token& stop) {
    begin_helper_thread("dcs3gd-claim");
    std::unique_lock lock(mutex_);
    while (!ends_.wait_for(lock, stop, kBeat, [] { return false; }) && !stop.stop_requested()) beat();
  });
}

RunFolderClaim::~RunFolderClaim() {
  heart_.request_stop();
  heart_.join();
  if (taken_by_.empty() && is_at(lock_, path_)) write_lock(lock_, format("{}\n{}", holder_, kGivenBack));
}

std::string RunFolderClaim::taken_by() const {
  if (!is_taken_) return "";
  const std::lock_guard lock(mutex_);
  return taken_by_;
}

void RunFolderClaim::expect_held() {
  const std::lock_guard lock(mutex_);
  beat();
  if (taken_by_.empty()) return;
  throw Error(ErrorKind::failure, format("the run folder {} was taken over by {}", folder_, taken_by_));
}

/// Gives a sign of life; finds that the lock file is another's, or makes it anew if it is gone. What storage does not
/// tell at the moment changes nothing.
void RunFolderClaim::beat() {
  if (!taken_by_.empty()) return;
  const FileDescriptor found(path_, O_RDONLY | O_NOFOLLOW);
  if (found.is_open()) {
    const LockText text = read_lock(found);
    if (!text.all.empty() && text.holder() != holder_) {
      taken_by_ = text.holder();
      is_taken_ = true;
    } else if (is_at(lock_, path_)) {
      write_lock(lock_, format("{}\nbeat {}\n", holder_, ++beats_));
    }
    return;
  }
  if (errno != ENOENT) return;
  FileDescriptor anew(path_, O_RDWR | O_CREAT | O_EXCL);
  if (!anew.is_open() || (::flock(anew.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)) return;
  write_lock(anew, holder_ + "\n");
  lock_ = std::move(anew);
  log::warn(format("{} was removed; it is made anew", path_));
}

// --- a folder that all ranks see ---

namespace {

/// What rank 0 puts into a folder for a moment, making the folder and its parents where they are missing.
class Probe {
 public:
  explicit Probe(const std::string& folder) {
    std::error_code ignored;
    for (fs::path path = folder; !path.empty() && !fs::exists(path, ignored); path = path.parent_path()) {
      made_.push_back(path);
    }
    create_folder(folder);
    name_ = format(".probe-{:08x}", std::random_device()());
    path_ = folder + "/" + name_;
    write_file_atomically(path_, name_);
  }
  ~Probe() {
    std::error_code ignored;
    fs::remove(path_, ignored);
    for (const fs::path& folder : made_) fs::remove(folder, ignored);  // unless something came into it
  }
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;

  const std::string& name() const { return name_; }

 private:
  std::vector<fs::path> made_;  ///< the innermost first
  std::string name_;
  std::string path_;
};

/// Whether this rank may write to the folder, and sees the probe there.
void look_for(const std::string& probe, const std::string& folder, int rank) {
  const std::string mine = format("{}/{}.rank{}", folder, probe, rank);
  write_file_atomically(mine, probe);
  fs::remove(mine);
  const auto begin = std::chrono::steady_clock::now();
  const std::string wanted = format("{}/{}", folder, probe);
  while (!fs::exists(wanted)) {
    if (std::chrono::steady_clock::now() - begin > kPatience) {
      throw Error(ErrorKind::input, "what rank 0 writes there is not seen here");
    }
    std::this_thread::sleep_for(kPatience / 50);
  }
}

void expect_shared(comm::Communicator& communicator, const std::string& folder) {
  std::optional<Probe> probe;
  agree(communicator, [&] {
    if (communicator.rank() == 0) probe.emplace(folder);
  });
  const std::string name = communicator.from_rank_0(probe ? probe->name() : "");
  agree(communicator, [&] {
    const std::optional<Error> problem = attempt([&] { look_for(name, folder, communicator.rank()); });
    if (!problem) return;
    throw Error(ErrorKind::input,
                format("the folder {} is not one that all ranks share and may write to: {}; let run.output_dir be on a "
                       "file system that all hosts share",
                       folder, problem->what()));
  });
}

}  // namespace

void expect_shared(comm::Communicator& communicator, const RunFolder& folder) {
  if (communicator.size() == 1) return;
  expect_shared(communicator, folder.path());
  std::error_code ignored;  // may be a link of its own
  const bool has_checkpoints = communicator.rank() == 0 && fs::exists(folder.checkpoints(), ignored);
  if (!communicator.from_rank_0(has_checkpoints ? "there" : "").empty()) {
    expect_shared(communicator, folder.checkpoints());
  }
}

}  // namespace dcs3gd::app
