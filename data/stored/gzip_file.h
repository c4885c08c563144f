#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

struct gzFile_s;  // zlib's, whose header is kept out of this one

namespace dcs3gd::data {

/// Reads a binary file from its beginning to its end, plain or gzip (told apart by content, not by name). What is wrong
/// with the file is an Error{input} that names it and the offset; a device that fails to read is an Error{failure}.
class GzipFile {
 public:
  /// Throws Error{input} if `path` is no readable regular file.
  explicit GzipFile(const std::string& path);

  const std::string& path() const { return path_; }
  /// Bytes read so far, after decompression.
  std::uint64_t offset() const { return offset_; }
  bool compressed() const { return compressed_; }
  /// Upper bound on the bytes the file can hold after decompression: check a header's claims with it before allocating.
  std::uint64_t max_content_bytes() const;

  /// Fills `bytes`; `what` names them in the message about a file that ends too early.
  void read(std::span<std::uint8_t> bytes, std::string_view what);
  /// The next four bytes as a big-endian number.
  std::uint32_t read_big_endian_u32(std::string_view what);
  /// Throws unless all has been read (which also verifies gzip's checksum).
  void expect_end();

  /// "FILE: at byte N: PROBLEM", the form of every message about the file's content.
  [[noreturn]] void refuse(std::uint64_t at_byte, std::string_view problem) const;

 private:
  struct Close {
    void operator()(gzFile_s* file) const noexcept;
  };

  /// Up to bytes.size() bytes; fewer only at the end of the file.
  std::size_t read_some(std::span<std::uint8_t> bytes);

  std::string path_;
  std::uint64_t file_bytes_ = 0;
  bool compressed_ = false;
  std::unique_ptr<gzFile_s, Close> file_;
  std::uint64_t offset_ = 0;
};

}  // namespace dcs3gd::data
