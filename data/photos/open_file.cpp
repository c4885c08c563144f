#include "data/photos/open_file.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "core/format.h"

namespace dcs3gd::data {
namespace {

/// The words for errno if it says something about the file; what it says about the machine ends the run.
std::string file_problem(const std::string& path) {
  constexpr std::array kOfTheFile{ENOENT, EACCES, EPERM, ELOOP, ENOTDIR, ESTALE, ENXIO};
  const int code = errno;
  std::string reason = std::strerror(code);
  if (std::ranges::find(kOfTheFile, code) != kOfTheFile.end()) return reason;
  throw Error(ErrorKind::failure, format("{}: cannot be read: {}", path, reason));
}

}  // namespace

OpenFile::OpenFile(std::string path)
    : path_(std::move(path)), descriptor_(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
  struct stat status {};
  if (descriptor_ < 0 || ::fstat(descriptor_, &status) != 0) {
    problem_ = file_problem(path_);
  } else if (!S_ISREG(status.st_mode)) {
    problem_ = "no regular file";
  } else {
    size_ = static_cast<std::uint64_t>(status.st_size);
    modified_ns_ = std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
  }
}

OpenFile::OpenFile(OpenFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_(other.size_),
      modified_ns_(other.modified_ns_),
      problem_(std::move(other.problem_)) {}

OpenFile::~OpenFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

std::string OpenFile::read(std::uint64_t offset, std::span<std::uint8_t> into) const {
  while (!into.empty()) {
    const ssize_t count = ::pread(descriptor_, into.data(), into.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return file_problem(path_);
    if (count == 0) return format("the file ends at byte {}, {} more were expected", offset, into.size());
    offset += static_cast<std::uint64_t>(count);
    into = into.subspan(static_cast<std::size_t>(count));
  }
  return "";
}

}  // namespace dcs3gd::data
