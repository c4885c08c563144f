#include "data/stored/gzip_file.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include <zlib.h>

#include "core/error.h"
#include "core/format.h"

namespace dcs3gd::data {
namespace {

/// Deflate cannot expand data by more than this (zlib's technical notes).
constexpr std::uint64_t kMaxDeflateRatio = 1032;
/// gzread() takes a 32-bit length and returns an int.
constexpr std::size_t kMaxReadBytes = std::size_t{1} << 30;
constexpr unsigned kBufferBytes = 1U << 17;

}  // namespace

void GzipFile::Close::operator()(gzFile_s* file) const noexcept { gzclose(file); }

GzipFile::GzipFile(const std::string& path) : path_(path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    throw Error(ErrorKind::input, format("{}: expected a file, found {}; check data.train and data.eval", path,
                                         std::filesystem::exists(path, error) ? "something else" : "nothing"));
  }
  file_bytes_ = std::filesystem::file_size(path, error);
  if (!error) file_.reset(gzopen(path.c_str(), "rb"));
  if (file_ == nullptr) {
    throw Error(ErrorKind::input, format("{}: cannot be opened: {}; check its permissions", path,
                                         error ? error.message() : std::strerror(errno)));
  }
  gzbuffer(file_.get(), kBufferBytes);
  compressed_ = gzdirect(file_.get()) == 0;
}

std::uint64_t GzipFile::max_content_bytes() const { return compressed_ ? file_bytes_ * kMaxDeflateRatio : file_bytes_; }

std::size_t GzipFile::read_some(std::span<std::uint8_t> bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const auto wanted = static_cast<unsigned>(std::min(bytes.size() - done, kMaxReadBytes));
    const int got = gzread(file_.get(), bytes.data() + done, wanted);
    if (got < 0) {
      int code = Z_OK;
      const std::string reason = gzerror(file_.get(), &code);
      if (code == Z_ERRNO) throw Error(ErrorKind::failure, format("{}: cannot be read: {}", path_, reason));
      refuse(offset_ + done, format("damaged gzip data ({}); fetch the file again", reason));
    }
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  offset_ += done;
  return done;
}

void GzipFile::read(std::span<std::uint8_t> bytes, std::string_view what) {
  const std::uint64_t start = offset_;
  const std::size_t found = read_some(bytes);
  if (found == bytes.size()) return;
  refuse(start, format("expected {} bytes of {}, found {} before the end of the file; it is truncated: fetch it again",
                       bytes.size(), what, found));
}

std::uint32_t GzipFile::read_big_endian_u32(std::string_view what) {
  std::array<std::uint8_t, 4> bytes{};
  read(bytes, what);
  return std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 | std::uint32_t{bytes[2]} << 8 | bytes[3];
}

void GzipFile::expect_end() {
  const std::uint64_t end = offset_;
  std::array<std::uint8_t, 1> byte{};
  if (read_some(byte) != 0) {
    refuse(end, "expected the end of the file, found more data; the header does not fit the content: fetch it again");
  }
  // A gzip stream cut off inside its checksum delivers all its data, and an error only here.
  int code = Z_OK;
  gzerror(file_.get(), &code);
  if (code == Z_BUF_ERROR) refuse(end, "gzip data without its end; it is truncated: fetch it again");
}

void GzipFile::refuse(std::uint64_t at_byte, std::string_view problem) const {
  throw Error(ErrorKind::input, format("{}: at byte {}: {}", path_, at_byte, problem));
}

}  // namespace dcs3gd::data
