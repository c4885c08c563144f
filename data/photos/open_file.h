#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace dcs3gd::data {

/// A file of a photo data set, read by position; reads may come from several threads. What is wrong with the file is
/// returned in words, for it may concern one image among a million; what is wrong with the machine is an
/// Error{failure}.
class OpenFile {
 public:
  /// Opens a regular file; problem() says why not.
  explicit OpenFile(std::string path);
  OpenFile(OpenFile&& other) noexcept;
  OpenFile& operator=(OpenFile&& other) = delete;
  ~OpenFile();

  /// Empty if the file is open.
  const std::string& problem() const { return problem_; }
  const std::string& path() const { return path_; }
  /// Bytes, when it was opened.
  std::uint64_t size() const { return size_; }
  /// Time of its last change, nanoseconds since 1970, when it was opened.
  std::int64_t modified_ns() const { return modified_ns_; }
  /// Fills `into` from `offset`. Returns what is wrong, empty if nothing is.
  std::string read(std::uint64_t offset, std::span<std::uint8_t> into) const;

 private:
  std::string path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
  std::int64_t modified_ns_ = 0;
  std::string problem_;
};

}  // namespace dcs3gd::data
