#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace dcs3gd {

/// Owns a POSIX file descriptor. Opened close-on-exec.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  /// Opens like open(2), with the mode 0666 less the umask for new files. On failure `is_open()` is false and errno
  /// set.
  FileDescriptor(const std::string& path, int flags);
  ~FileDescriptor();
  FileDescriptor(FileDescriptor&& other) noexcept;
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;

  bool is_open() const { return descriptor_ >= 0; }
  int get() const { return descriptor_; }
  /// Closes at once; false with errno set if the system then still reports a failed write.
  bool close();

 private:
  int descriptor_ = -1;
};

/// The system's words for the current errno, such as "No space left on device".
std::string system_reason();

/// Makes what was created, renamed or removed in the folder durable; false with errno set on failure. Some network file
/// systems cannot sync folders and say so; that is no failure.
bool sync_folder(const std::string& folder);

/// Creates the folder and those above it, as far as they are missing, and makes them durable. Throws Error{failure}.
void create_folders_durably(const std::string& path);

/// Renames a file or folder within a folder and makes that durable. Throws Error{failure}.
void rename_durably(const std::string& from, const std::string& to);

/// Writes all bytes, in as many calls as it takes; false with errno set on failure.
bool write_fully(int descriptor, std::span<const std::byte> bytes);

/// A file that only grows, by whole records. Not thread-safe.
class AppendedFile {
 public:
  /// Opens the file, to write after what it holds. Throws Error{failure} if it cannot, or if there is a link.
  explicit AppendedFile(std::string path);

  /// The record is in the file whole, or not at all, when this returns. When the disk is full records are lost, the run
  /// goes on, and one warning says so. A file that was removed is begun anew.
  void append(std::string_view record);

 private:
  void begin_anew();

  std::string path_;
  FileDescriptor descriptor_;
  bool warned_ = false;
};

/// A regular file read by position, without mapping: a file that shrinks or vanishes is an error, not a signal. Reads
/// may come from several threads. What is wrong with the file itself (missing, no permission, too short) is returned in
/// words, for it may concern one image among a million, or thrown as Error{input} "PATH: PROBLEM"; what is wrong with
/// the machine is an Error{failure}. What storage may get over (stale handles, time-outs, I/O errors, no memory) is
/// tried three times within a second.
class PositionedFile {
 public:
  /// Whether a file that is not there may come back: it was there before.
  enum class IfMissing { give_up, wait };

  /// Opens the file; problem() says why it could not.
  explicit PositionedFile(std::string path, IfMissing if_missing = IfMissing::give_up);

  /// Empty if the file is open.
  const std::string& problem() const { return problem_; }
  const std::string& path() const { return path_; }
  /// Bytes, when it was opened.
  std::uint64_t size() const { return size_; }
  /// Time of its last change, nanoseconds since 1970, when it was opened.
  std::int64_t modified_ns() const { return modified_ns_; }
  /// Fills `into` from `offset`. Returns what is wrong with the file, empty if nothing is.
  [[nodiscard]] std::string try_read(std::uint64_t offset, std::span<std::byte> into) const;
  /// Fills `into` from `offset`. Throws.
  void read(std::uint64_t offset, std::span<std::byte> into) const;

 private:
  std::string path_;
  FileDescriptor descriptor_;
  std::uint64_t size_ = 0;
  std::int64_t modified_ns_ = 0;
  std::string problem_;
};

/// Opens a file to be read by position. Throws.
PositionedFile open_file(std::string path);

/// The end of the names of files and folders that are not whole yet.
constexpr const char* kUnfinishedSuffix = ".tmp";

/// Writes a file that appears whole or not at all: under a temporary name (`<path>.1a2b3c4d.tmp`) in the same folder,
/// then fsync, rename, fsync of the folder. A crash or full disk at any point leaves the old file, if there was one, as
/// it was. Of several writers of one path the last one to commit counts. All members throw Error{failure} naming file
/// and reason.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  /// Removes the temporary file unless commit() came to its end.
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  /// Makes the file durable under its name. Nothing may be written afterwards.
  void commit();

 private:
  [[noreturn]] void fail(std::string_view what) const;

  std::string path_;
  std::string temporary_;
  FileDescriptor descriptor_;
  bool committed_ = false;
};

/// An AtomicFile with this content.
void write_file_atomically(const std::string& path, std::string_view content);

/// A file whose name a user has chosen, which may stand for anything: a regular file is replaced as by AtomicFile,
/// where a link leads; a device or pipe is written into. Members throw Error{failure} naming file and reason.
class OutputFile {
 public:
  /// Throws Error{input} if nothing can be written there, such as into a folder or where a link leads nowhere.
  explicit OutputFile(const std::string& path);

  void write(std::string_view text);
  /// All is there. Nothing may be written afterwards.
  void commit();

 private:
  std::string path_;
  std::optional<AtomicFile> file_;  ///< none: written into what is there
  FileDescriptor descriptor_;
};

/// Files that this process may have open at a time.
std::uint64_t descriptor_limit();
/// Raises that limit as far as the system lets it, up to 65536.
void raise_descriptor_limit();

/// A path as a shell would take it: a ~ or ~user at its beginning becomes the home folder, if there is one.
std::string expand_home(const std::string& path);

/// Where files are kept that can be made again: dcs3gd-train in the folder that XDG_CACHE_HOME names, else in ~/.cache.
/// Empty if the user has none.
std::string user_cache_folder();

}  // namespace dcs3gd
