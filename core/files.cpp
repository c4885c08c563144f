#include "core/files.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <system_error>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <pwd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "core/format.h"
#include "core/log.h"
#include "core/printable.h"

namespace dcs3gd {
namespace {

constexpr mode_t kNewFileMode = 0666;                                             // less the umask
constexpr int kAppend = O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK;  // of a pipe that nobody reads

/// Repeats a system call that a signal interrupted.
template <typename Call>
auto retry_interrupted(Call&& call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

/// Repeats a call that failed for what storage may get over in a moment; `and_for` is one more such errno, or 0.
template <typename Call>
auto retry_transient(Call&& call, int and_for = 0) {
  constexpr std::array kTransient{ESTALE, EIO, ETIMEDOUT, ENOMEM};
  for (const std::chrono::milliseconds wait : {std::chrono::milliseconds(200), std::chrono::milliseconds(800)}) {
    auto result = retry_interrupted(call);
    const bool is_transient = errno == and_for || std::ranges::find(kTransient, errno) != kTransient.end();
    if (result >= 0 || !is_transient) return result;
    std::this_thread::sleep_for(wait);
  }
  return retry_interrupted(call);
}

/// Whether what is written there is lost; network file systems do not know such files any more.
bool is_removed(const FileDescriptor& file) {
  struct stat status {};
  return ::fstat(file.get(), &status) == 0 ? status.st_nlink == 0 : errno == ESTALE;
}

/// The words for errno if it says something about the file; what it says about the machine is an Error{failure}.
std::string file_problem(const std::string& path) {
  constexpr std::array kOfTheFile{ENOENT, EACCES, EPERM, ELOOP, ENOTDIR, ESTALE, ENXIO};
  const int code = errno;
  std::string reason = std::generic_category().message(code);
  if (std::ranges::find(kOfTheFile, code) != kOfTheFile.end()) return reason;
  const bool is_limit = code == EMFILE || code == ENFILE;
  throw Error(ErrorKind::failure,
              format("{}: cannot be read: {}{}", printable(path), reason,
                     is_limit ? format("; {} may be open: raise the limit with ulimit -n", descriptor_limit()) : ""));
}

void refuse_if(const std::string& path, const std::string& problem) {
  if (!problem.empty()) throw Error(ErrorKind::input, format("{}: {}", printable(path), problem));
}

}  // namespace

FileDescriptor::FileDescriptor(const std::string& path, int flags)
    : descriptor_(retry_interrupted([&] { return ::open(path.c_str(), flags | O_CLOEXEC, kNewFileMode); })) {}

FileDescriptor::~FileDescriptor() { close(); }

FileDescriptor::FileDescriptor(FileDescriptor&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

bool FileDescriptor::close() {
  const int descriptor = std::exchange(descriptor_, -1);
  // On Linux the descriptor is gone even if close() was interrupted, so it is not tried again.
  return descriptor < 0 || ::close(descriptor) == 0 || errno == EINTR;
}

std::string system_reason() { return std::generic_category().message(errno); }

bool sync_folder(const std::string& folder) {
  const FileDescriptor descriptor(folder, O_RDONLY | O_DIRECTORY);
  if (!descriptor.is_open()) return false;
  return retry_interrupted([&] { return ::fsync(descriptor.get()); }) == 0 || errno == EINVAL;
}

void create_folders_durably(const std::string& path) {
  namespace fs = std::filesystem;
  fs::path folder = fs::path(path).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();  // of "a/b/"
  const std::string parent = folder.parent_path().string();
  std::error_code error;
  if (fs::is_directory(folder, error)) return;
  if (!parent.empty() && parent != path) create_folders_durably(parent);
  fs::create_directory(folder, error);
  if (error) throw Error(ErrorKind::failure, format("cannot create {}: {}", path, error.message()));
  if (!sync_folder(parent.empty() ? "." : parent)) {
    throw Error(ErrorKind::failure, format("cannot make {} durable: {}", path, system_reason()));
  }
}

void rename_durably(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) {
    throw Error(ErrorKind::failure, format("cannot rename {} to {}: {}", from, to, system_reason()));
  }
  const std::string folder = std::filesystem::path(to).parent_path().string();
  if (!sync_folder(folder.empty() ? "." : folder)) {
    throw Error(ErrorKind::failure, format("cannot make {} durable: {}", to, system_reason()));
  }
}

bool write_fully(int descriptor, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = retry_interrupted([&] { return ::write(descriptor, bytes.data(), bytes.size()); });
    if (written < 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return true;
}

AppendedFile::AppendedFile(std::string path) : path_(std::move(path)), descriptor_(path_, kAppend) {
  if (!descriptor_.is_open()) {
    throw Error(ErrorKind::failure, format("cannot open {}: {}", path_,
                                           errno == ELOOP ? "it is a link, which is not followed" : system_reason()));
  }
}

void AppendedFile::append(std::string_view record) {
  if (is_removed(descriptor_)) begin_anew();
  const off_t end = ::lseek(descriptor_.get(), 0, SEEK_END);
  if (write_fully(descriptor_.get(), std::as_bytes(std::span(record)))) return;
  const std::string reason = system_reason();
  // A disk may fill up in the middle of a record: take its beginning back.
  const bool taken_back = ::ftruncate(descriptor_.get(), end) == 0;
  if (!std::exchange(warned_, true)) {
    log::warn(format("cannot write {}: {}; what belongs there is lost{}, the run goes on", path_, reason,
                     taken_back ? "" : " or cut off"));
  }
}

void AppendedFile::begin_anew() {
  if (FileDescriptor anew(path_, kAppend); anew.is_open()) {
    descriptor_ = std::move(anew);
    log::warn(format("{} was removed; it is begun anew", path_));
  } else if (!std::exchange(warned_, true)) {
    log::warn(format("{} was removed; what belongs there is lost until it can be made anew", path_));
  }
}

PositionedFile::PositionedFile(std::string path, IfMissing if_missing) : path_(std::move(path)) {
  struct stat status {};
  const auto open = [&] {
    descriptor_ = FileDescriptor(path_, O_RDONLY | O_NONBLOCK);
    return descriptor_.is_open() ? ::fstat(descriptor_.get(), &status) : -1;
  };
  if (retry_transient(open, if_missing == IfMissing::wait ? ENOENT : 0) != 0) {
    problem_ = file_problem(path_);
  } else if (!S_ISREG(status.st_mode)) {
    problem_ = "no regular file";
  } else {
    size_ = static_cast<std::uint64_t>(status.st_size);
    modified_ns_ = std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
  }
}

std::string PositionedFile::try_read(std::uint64_t offset, std::span<std::byte> into) const {
  while (!into.empty()) {
    const ssize_t count = retry_transient(
        [&] { return ::pread(descriptor_.get(), into.data(), into.size(), static_cast<off_t>(offset)); });
    if (count < 0) return file_problem(path_);
    if (count == 0)
      return format("the file ends at byte {}, {} more were expected: it is cut off or was changed while it was read",
                    offset, into.size());
    offset += static_cast<std::uint64_t>(count);
    into = into.subspan(static_cast<std::size_t>(count));
  }
  return "";
}

void PositionedFile::read(std::uint64_t offset, std::span<std::byte> into) const {
  refuse_if(path_, try_read(offset, into));
}

PositionedFile open_file(std::string path) {
  PositionedFile file(std::move(path));
  refuse_if(file.path(), file.problem());
  return file;
}

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {
  std::random_device random;
  do {
    temporary_ = format("{}.{:08x}{}", path_, random(), kUnfinishedSuffix);
    descriptor_ = FileDescriptor(temporary_, O_WRONLY | O_CREAT | O_EXCL);
  } while (!descriptor_.is_open() && errno == EEXIST);
  if (!descriptor_.is_open()) fail("cannot create");
}

AtomicFile::~AtomicFile() {
  if (!committed_) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  if (!write_fully(descriptor_.get(), bytes)) fail("cannot write");
}

void AtomicFile::commit() {
  if (retry_interrupted([&] { return ::fsync(descriptor_.get()); }) != 0 || !descriptor_.close()) fail("cannot write");
  rename_durably(temporary_, path_);
  committed_ = true;
}

void AtomicFile::fail(std::string_view what) const {
  throw Error(ErrorKind::failure, format("{} {}: {}", what, path_, system_reason()));
}

void write_file_atomically(const std::string& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

OutputFile::OutputFile(const std::string& path) : path_(printable(path)) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  const fs::file_status target = fs::status(path, ignored);
  const bool is_link = fs::is_symlink(fs::symlink_status(path, ignored));
  // Behind a link of these folders is what another process has opened, by its path or no longer.
  const std::string folder = fs::weakly_canonical(fs::path(path).parent_path(), ignored).string();
  const bool is_open_elsewhere = is_link && (folder.starts_with("/dev") || folder.starts_with("/proc"));
  if (fs::is_directory(target)) {
    throw Error(ErrorKind::input, format("{}: is a folder, expected the name of a file", path_));
  }
  if (is_link && !fs::exists(target)) throw Error(ErrorKind::input, format("{}: is a link that leads nowhere", path_));
  if (is_open_elsewhere || (fs::exists(target) && !fs::is_regular_file(target))) {
    descriptor_ = FileDescriptor(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY);  // a pipe that nobody reads
    if (!descriptor_.is_open() || ::fcntl(descriptor_.get(), F_SETFL, O_APPEND) != 0) {
      throw Error(ErrorKind::input, format("{}: cannot be written: {}", path_, system_reason()));
    }
    return;
  }
  try {
    file_.emplace(is_link ? fs::canonical(path).string() : path);
  } catch (const Error& error) {
    throw Error(ErrorKind::input, error.what());
  }
}

void OutputFile::write(std::string_view text) {
  if (file_) {
    file_->write(text);
  } else if (!write_fully(descriptor_.get(), std::as_bytes(std::span(text)))) {
    throw Error(ErrorKind::failure, format("cannot write {}: {}", path_, system_reason()));
  }
}

void OutputFile::commit() {
  if (file_) file_->commit();
}

std::uint64_t descriptor_limit() {
  rlimit limit{};
  return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 1024;
}

void raise_descriptor_limit() {
  rlimit limit{};
  constexpr rlim_t kEnough = 65536;  // some programs do something for each that there may be
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= kEnough) return;
  limit.rlim_cur = std::min(limit.rlim_max, kEnough);
  ::setrlimit(RLIMIT_NOFILE, &limit);  // what cannot be raised stays as it was
}

std::string expand_home(const std::string& path) {
  if (!path.starts_with('~')) return path;
  const std::size_t end = std::min(path.find('/'), path.size());
  const std::string user = path.substr(1, end - 1);
  const char* home = user.empty() ? std::getenv("HOME") : nullptr;
  if (home == nullptr || *home == '\0') {
    const passwd* entry = user.empty() ? ::getpwuid(::getuid()) : ::getpwnam(user.c_str());
    home = entry != nullptr ? entry->pw_dir : nullptr;
  }
  return home != nullptr ? home + path.substr(end) : path;
}

std::string user_cache_folder() {
  // Relative paths are to be ignored, says the specification of these variables.
  const auto folder_in = [](const char* name) {
    const char* value = std::getenv(name);
    return value != nullptr && *value == '/' ? std::string(value) : std::string();
  };
  if (const std::string folder = folder_in("XDG_CACHE_HOME"); !folder.empty()) return folder + "/dcs3gd-train";
  const std::string home = folder_in("HOME");
  return home.empty() ? home : home + "/.cache/dcs3gd-train";
}

}  // namespace dcs3gd
