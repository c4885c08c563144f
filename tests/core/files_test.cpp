#include "core/files.h"

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "tests/support/file_helpers.h"
#include "tests/support/temporary_folder.h"

using namespace dcs3gd;
using dcs3gd::test::TemporaryFolder;

namespace {

std::size_t files_in(const TemporaryFolder& folder) {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder.path())) ++count;
  return count;
}

}  // namespace

TEST_CASE("an atomic file appears with all its parts, with the usual mode, and leaves nothing else") {
  const TemporaryFolder folder;
  const std::string path = folder / "file";
  const mode_t saved = umask(027);
  {
    AtomicFile file(path);
    file.write("one, ");
    file.write("two");
    CHECK_FALSE(std::filesystem::exists(path));
    file.commit();
  }
  umask(saved);
  CHECK(test::content_of(path) == "one, two");
  struct stat status {};
  REQUIRE(stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0640);
  CHECK(files_in(folder) == 1);
}

TEST_CASE("an atomic file replaces the old one; one that is given up leaves it") {
  const TemporaryFolder folder;
  const std::string path = folder / "file";
  write_file_atomically(path, "old and longer");
  write_file_atomically(path, "new");
  CHECK(test::content_of(path) == "new");
  {
    AtomicFile file(path);
    file.write("never finished");
  }
  CHECK(test::content_of(path) == "new");
  CHECK(files_in(folder) == 1);
}

TEST_CASE("an atomic file may have a name without a folder") {
  const TemporaryFolder folder;
  const std::filesystem::path saved = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  write_file_atomically("file", "content");
  CHECK(test::content_of("file") == "content");
  CHECK(files_in(folder) == 1);
  std::filesystem::current_path(saved);
}

TEST_CASE("two writers of one atomic file do not meet: each file is whole, the last one stays") {
  const TemporaryFolder folder;
  const std::string path = folder / "file";
  AtomicFile first(path);
  AtomicFile second(path);
  first.write("fir");
  second.write("second");
  first.write("st");
  second.commit();
  CHECK(test::content_of(path) == "second");
  first.commit();
  CHECK(test::content_of(path) == "first");
  CHECK(files_in(folder) == 1);
}

TEST_CASE("a link is replaced by an atomic file, not followed; a file that grows refuses it") {
  const TemporaryFolder folder;
  const std::string target = folder / "target";
  test::write_file(target, "mine");
  std::filesystem::create_symlink(target, folder / "link");
  CHECK(test::contains(test::error_of([&] { AppendedFile{folder / "link"}; }).what(), "is a link"));
  write_file_atomically(folder / "link", "new");
  CHECK_FALSE(std::filesystem::is_symlink(folder / "link"));
  CHECK(test::content_of(target) == "mine");
}

TEST_CASE("an output file replaces what a link leads to, and is written into a pipe") {
  const TemporaryFolder folder;
  const auto write = [](const std::string& path) {
    OutputFile file(path);
    file.write("one, ");
    file.write("two");
    file.commit();
  };
  write(folder / "new");
  CHECK(test::content_of(folder / "new") == "one, two");

  test::write_file(folder / "target", "old and longer");
  std::filesystem::create_symlink("target", folder / "link");
  write(folder / "link");
  CHECK(std::filesystem::is_symlink(folder / "link"));
  CHECK(test::content_of(folder / "target") == "one, two");

  const std::string pipe = folder / "pipe";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(test::error_of([&] { write(pipe); }).kind() == ErrorKind::input);  // nobody reads it
  const FileDescriptor reader(pipe, O_RDONLY | O_NONBLOCK);
  write(pipe);
  char content[16] = {};
  CHECK(read(reader.get(), content, sizeof(content)) == 8);
  CHECK(std::string(content) == "one, two");
  CHECK(std::filesystem::is_fifo(pipe));

  write("/dev/null");
  CHECK(std::filesystem::is_character_file("/dev/null"));
  CHECK(test::error_of([&] { write("/dev/full"); }).kind() == ErrorKind::failure);
}

TEST_CASE("an output file that cannot be is an input error") {
  const TemporaryFolder folder;
  std::filesystem::create_symlink("nothing", folder / "link");
  for (const auto& [path, says] : {std::pair(folder.path().string(), "is a folder"),
                                   {folder / "link", "leads nowhere"},
                                   {folder / "missing/file", "No such file"}}) {
    const Error error = test::error_of([&, at = path] { OutputFile{at}; });
    CHECK(error.kind() == ErrorKind::input);
    CHECK_MESSAGE(test::contains(error.what(), says), error.what());
  }
  CHECK(files_in(folder) == 1);
}

TEST_CASE("folders are created with those above them") {
  const TemporaryFolder folder;
  create_folders_durably(folder / "a/b/c/");
  create_folders_durably(folder / "a/b");
  CHECK(std::filesystem::is_directory(folder / "a/b/c"));
  test::write_file(folder / "file", "");
  CHECK(test::error_of([&] { create_folders_durably(folder / "file/x"); }).kind() == ErrorKind::failure);
}

TEST_CASE("a short write is continued; when it fails at last, the old file is whole and the error says why") {
  const TemporaryFolder folder;
  const std::string path = folder / "file";
  write_file_atomically(path, "old");
  const std::string content(10'000, 'x');
  {
    const test::FileSizeLimit limit(4'000);
    const Error error = test::error_of([&] { write_file_atomically(path, content); });
    CHECK(error.kind() == ErrorKind::failure);
    CHECK_MESSAGE(test::contains(error.what(), "cannot write " + path + ": File too large"), error.what());
  }
  CHECK(test::content_of(path) == "old");
  CHECK(files_in(folder) == 1);
}

TEST_CASE("an atomic file that cannot be created or renamed is an error and leaves nothing") {
  const TemporaryFolder folder;
  const std::string missing = folder / "missing/file";
  const Error created = test::error_of([&] { write_file_atomically(missing, "x"); });
  CHECK(created.kind() == ErrorKind::failure);
  CHECK_MESSAGE(test::contains(created.what(), "cannot create " + missing + ": No such file"), created.what());

  std::filesystem::create_directories(folder / "taken/by a folder");
  const std::string taken = folder / "taken";
  const Error renamed = test::error_of([&] { write_file_atomically(taken, "x"); });
  CHECK(renamed.kind() == ErrorKind::failure);
  CHECK(files_in(folder) == 1);
}

TEST_CASE("a file is read by position") {
  const TemporaryFolder folder;
  const std::string path = folder / "file";
  test::write_file(path, "0123456789");
  const PositionedFile file = open_file(path);
  CHECK(file.size() == 10);
  std::string text(4, ' ');
  file.read(3, std::as_writable_bytes(std::span(text)));
  CHECK(text == "3456");
}

TEST_CASE("what is missing, no file, or shorter than expected is an input error that names it") {
  const TemporaryFolder folder;
  const std::string path = folder / "file";
  CHECK(test::error_of([&] { open_file(path); }).kind() == ErrorKind::input);
  CHECK(PositionedFile(path).problem() == "No such file or directory");
  CHECK(test::error_of([&] { open_file(folder.path()); }).kind() == ErrorKind::input);
  REQUIRE(mkfifo((folder / "fifo").c_str(), 0600) == 0);
  CHECK(test::error_of([&] { open_file(folder / "fifo"); }).kind() == ErrorKind::input);

  test::write_file(path, "0123456789");
  const PositionedFile file = open_file(path);
  std::filesystem::resize_file(path, 5);
  std::string text(8, ' ');
  CHECK(file.problem() == "");
  CHECK(test::contains(file.try_read(2, std::as_writable_bytes(std::span(text))), "the file ends at byte 5, 5 more"));
  const Error error = test::error_of([&] { file.read(2, std::as_writable_bytes(std::span(text))); });
  CHECK(error.kind() == ErrorKind::input);
  CHECK_MESSAGE(test::contains(error.what(), path + ": the file ends at byte 5"), error.what());
}

TEST_CASE("a file descriptor is closed once, by its last owner") {
  const TemporaryFolder folder;
  FileDescriptor first(folder / "file", O_WRONLY | O_CREAT);
  REQUIRE(first.is_open());
  const int number = first.get();
  {
    const FileDescriptor second(std::move(first));
    CHECK(second.get() == number);
    CHECK(fcntl(number, F_GETFD) == FD_CLOEXEC);
  }
  CHECK(fcntl(number, F_GETFD) == -1);
  CHECK_FALSE(FileDescriptor(folder / "missing", O_RDONLY).is_open());
}

TEST_CASE("the user's cache folder") {
  const auto folder_with = [](const char* cache_home, const char* home) {
    const char* names[] = {"XDG_CACHE_HOME", "HOME"};
    const char* values[] = {cache_home, home};
    std::optional<std::string> before[2];
    for (int i : {0, 1}) {
      if (const char* value = std::getenv(names[i])) before[i] = value;
      setenv(names[i], values[i], 1);
    }
    std::string folder = user_cache_folder();
    for (int i : {0, 1}) before[i] ? setenv(names[i], before[i]->c_str(), 1) : unsetenv(names[i]);
    return folder;
  };
  CHECK(folder_with("/c", "/h") == "/c/dcs3gd-train");
  CHECK(folder_with("", "/h") == "/h/.cache/dcs3gd-train");
  CHECK(folder_with("relative", "/h") == "/h/.cache/dcs3gd-train");
  CHECK(folder_with("", "") == "");
}
