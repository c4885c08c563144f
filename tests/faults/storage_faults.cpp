// Preloaded into a program (LD_PRELOAD), makes calls on certain files fail as a disk would. The environment variable
// STORAGE_FAULT says "CALL NUMBER PART": CALL is open, mkdir, write, fwrite, fsync, rename or short; NUMBER the errno;
// PART what the file's path has to contain. A short write writes one byte less than it was asked to, and succeeds.

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>

#include <dlfcn.h>
#include <fcntl.h>
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

/// The function that this one stands before.
template <typename Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

std::size_t write_stream(const char* name, const void* data, std::size_t size, std::size_t count, FILE* file) {
  if (fault().hits("fwrite", path_of(fileno(file)))) return fail(), 0;
  return real<std::size_t(const void*, std::size_t, std::size_t, FILE*)>(name)(data, size, count, file);
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  std::va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  if ((flags & O_CREAT) != 0 && fault().hits("open", path)) return fail();
  return real<int(const char*, int, ...)>("open")(path, flags, mode);
}

int mkdir(const char* path, mode_t mode) noexcept {
  if (fault().hits("mkdir", path)) return fail();
  return real<int(const char*, mode_t)>("mkdir")(path, mode);
}

ssize_t write(int descriptor, const void* data, std::size_t bytes) {
  static const auto real_write = real<ssize_t(int, const void*, std::size_t)>("write");
  const std::string path = path_of(descriptor);
  if (fault().hits("write", path)) return fail();
  return real_write(descriptor, data, bytes > 1 && fault().hits("short", path) ? bytes - 1 : bytes);
}

std::size_t fwrite(const void* data, std::size_t size, std::size_t count, FILE* file) {
  return write_stream("fwrite", data, size, count, file);
}

std::size_t fwrite_unlocked(const void* data, std::size_t size, std::size_t count, FILE* file) {
  return write_stream("fwrite_unlocked", data, size, count, file);
}

int fsync(int descriptor) {
  if (fault().hits("fsync", path_of(descriptor))) return fail();
  return real<int(int)>("fsync")(descriptor);
}

int rename(const char* from, const char* to) noexcept {
  if (fault().hits("rename", to)) return fail();
  return real<int(const char*, const char*)>("rename")(from, to);
}

}  // extern "C"
