// Preloaded into a program (LD_PRELOAD), makes calls on certain files fail as a disk would. The environment variable
// STORAGE_FAULT says "CALL NUMBER PART": CALL is open, mkdir, write, fwrite, fsync, rename, flock, short, hang or
// hang_mkdir; NUMBER the errno; PART what the file's path has to contain. A short write writes one byte less than it
// was asked to, and succeeds; so does an fsync or mkdir that hangs for NUMBER seconds.
//
// CALL may also be a moment at which the process dies (SIGKILL): "before" or "within" the NUMBER-th call that changes
// such a file. Within means: half of what was to be written is there; other calls are done.

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

struct Fault {
  Fault() {
    const char* const text = std::getenv("STORAGE_FAULT");
    std::istringstream(text == nullptr ? "" : text) >> call >> number >> part;
  }
  bool hits(const char* this_call, const std::string& path) const {
    return call == this_call && path.find(part) != std::string::npos;
  }
  /// Counts a call on the file. Dies, or says that the process is to die within this call.
  bool dies_within(const std::string& path) const {
    static std::atomic<int> calls = 0;
    if ((call != "before" && call != "within") || path.find(part) == std::string::npos) return false;
    const bool is_now = ++calls == number;
    if (is_now && call == "before") raise(SIGKILL);
    return is_now;
  }

  std::string call;
  int number = 0;
  std::string part;
};

const Fault& fault() {
  static const Fault the_fault;
  return the_fault;
}

std::string path_of(int descriptor) {
  char path[4096];
  const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
  const ssize_t length = ::readlink(link.c_str(), path, sizeof(path));
  return length < 0 ? "" : std::string(path, static_cast<std::size_t>(length));
}

int fail() {
  errno = fault().number;
  return -1;
}

/// What a call on the file returns, unless the process is to die within it.
template <typename Call>
auto survive(const std::string& path, Call&& call) {
  const bool dies = fault().dies_within(path);
  const auto result = call();
  if (dies) raise(SIGKILL);
  return result;
}

/// The function that this one stands before.
template <typename Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

std::size_t write_stream(const char* name, const void* data, std::size_t size, std::size_t count, FILE* file) {
  const std::string path = path_of(fileno(file));
  if (fault().hits("fwrite", path)) return fail(), 0;
  return survive(path, [&] {
    return real<std::size_t(const void*, std::size_t, std::size_t, FILE*)>(name)(data, size, count, file);
  });
}

int on_path(const char* name, const char* path) {
  return survive(path, [&] { return real<int(const char*)>(name)(path); });
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  std::va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  const auto call = [&] { return real<int(const char*, int, ...)>("open")(path, flags, mode); };
  if ((flags & O_CREAT) == 0) return call();
  return fault().hits("open", path) ? fail() : survive(path, call);
}

int mkdir(const char* path, mode_t mode) noexcept {
  if (fault().hits("hang_mkdir", path)) ::sleep(static_cast<unsigned>(fault().number));
  if (fault().hits("mkdir", path)) return fail();
  return survive(path, [&] { return real<int(const char*, mode_t)>("mkdir")(path, mode); });
}

ssize_t write(int descriptor, const void* data, std::size_t bytes) {
  static const auto real_write = real<ssize_t(int, const void*, std::size_t)>("write");
  const std::string path = path_of(descriptor);
  if (fault().hits("write", path)) return fail();
  const bool dies = fault().dies_within(path);
  const bool is_short = bytes > 1 && fault().hits("short", path);
  const ssize_t written = real_write(descriptor, data, dies ? bytes / 2 : is_short ? bytes - 1 : bytes);
  if (dies) raise(SIGKILL);
  return written;
}

std::size_t fwrite(const void* data, std::size_t size, std::size_t count, FILE* file) {
  return write_stream("fwrite", data, size, count, file);
}

std::size_t fwrite_unlocked(const void* data, std::size_t size, std::size_t count, FILE* file) {
  return write_stream("fwrite_unlocked", data, size, count, file);
}

int fsync(int descriptor) {
  const std::string path = path_of(descriptor);
  if (fault().hits("hang", path)) ::sleep(static_cast<unsigned>(fault().number));
  if (fault().hits("fsync", path)) return fail();
  return survive(path, [&] { return real<int(int)>("fsync")(descriptor); });
}

int flock(int descriptor, int operation) noexcept {
  if (fault().hits("flock", path_of(descriptor))) return fail();
  return real<int(int, int)>("flock")(descriptor, operation);
}

int rename(const char* from, const char* to) noexcept {
  if (fault().hits("rename", to)) return fail();
  return survive(to, [&] { return real<int(const char*, const char*)>("rename")(from, to); });
}

int unlink(const char* path) noexcept { return on_path("unlink", path); }
int rmdir(const char* path) noexcept { return on_path("rmdir", path); }
int remove(const char* path) noexcept { return on_path("remove", path); }

int unlinkat(int folder, const char* path, int flags) noexcept {
  const std::string whole = path_of(folder) + "/" + path;
  return survive(whole, [&] { return real<int(int, const char*, int)>("unlinkat")(folder, path, flags); });
}

}  // extern "C"
