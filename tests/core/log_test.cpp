#include "core/log.h"

#include <cctype>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/temporary_folder.h"

namespace log = dcs3gd::log;
using dcs3gd::test::TemporaryFolder;

namespace {

std::string content_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

/// Sends a stream of the process to a file for a while. Nothing may be CHECKed meanwhile: doctest would write there.
class Redirection {
 public:
  Redirection(std::FILE* stream, const std::filesystem::path& path) : stream_(stream) {
    std::fflush(stream_);
    saved_ = dup(fileno(stream_));
    std::FILE* file = std::fopen(path.c_str(), "w");
    REQUIRE(file != nullptr);
    dup2(fileno(file), fileno(stream_));
    std::fclose(file);
  }
  ~Redirection() {
    std::fflush(stream_);
    dup2(saved_, fileno(stream_));
    close(saved_);
  }
  Redirection(const Redirection&) = delete;
  Redirection& operator=(const Redirection&) = delete;

 private:
  std::FILE* stream_;
  int saved_;
};

struct Output {
  std::string out;
  std::string err;
};

/// What `body` writes to standard output and standard error; the log is closed after it.
template <typename Body>
Output output_of(Body body) {
  const TemporaryFolder folder;
  {
    const Redirection out(stdout, folder / "out");
    const Redirection err(stderr, folder / "err");
    body();
    log::close();
  }
  return {content_of(folder / "out"), content_of(folder / "err")};
}

std::size_t count_of(const std::string& part, const std::string& text) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

/// The text with each "HH:MM:SS " replaced by "T ".
std::string without_times(std::string text) {
  constexpr std::string_view kPattern = "dd:dd:dd ";
  const auto is_time = [&](std::size_t at) {
    for (std::size_t i = 0; i < kPattern.size(); ++i) {
      const bool digit = std::isdigit(static_cast<unsigned char>(text[at + i])) != 0;
      if (kPattern[i] == 'd' ? !digit : text[at + i] != kPattern[i]) return false;
    }
    return true;
  };
  for (std::size_t at = 0; at + kPattern.size() <= text.size(); ++at) {
    if (is_time(at)) text.replace(at, kPattern.size(), "T ");
  }
  return text;
}

}  // namespace

TEST_CASE("a console that nobody reads does not stop the process: the file has the lines") {
  const TemporaryFolder folder;
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  std::fflush(stdout);
  const int saved = dup(STDOUT_FILENO);
  dup2(ends[1], STDOUT_FILENO);
  const std::string text(100, 'x');
  constexpr int kLines = 2000;  // three times what a pipe holds
  log::open({.file = folder / "log.txt"});
  for (int line = 0; line < kLines; ++line) log::info(text);
  std::string read_back(std::size_t{1} << 20, ' ');
  const ssize_t taken = read(ends[0], read_back.data(), read_back.size());
  log::info("read again");
  const ssize_t rest = read(ends[0], read_back.data(), read_back.size());
  log::close();
  dup2(saved, STDOUT_FILENO);
  for (const int descriptor : {saved, ends[0], ends[1]}) close(descriptor);

  CHECK(count_of(text, content_of(folder / "log.txt")) == kLines);
  CHECK(taken > 0);
  REQUIRE(rest > 0);
  const std::string last = read_back.substr(0, static_cast<std::size_t>(rest));
  CHECK(last.find("lines were not taken in time") != std::string::npos);
  CHECK(last.find("read again") != std::string::npos);
}

TEST_CASE("before a log is opened, information goes to standard output and trouble to standard error") {
  const Output output = output_of([] {
    log::info("hello {} %v");
    log::warn("careful");
    log::error("broken");
  });
  CHECK(without_times(output.out) == "T hello {} %v\n");
  CHECK(without_times(output.err) == "T warning: careful\nT error: broken\n");
}

TEST_CASE("an open log also writes everything to its file, after what stands there") {
  const TemporaryFolder folder;
  const std::string path = folder / "log.txt";
  std::ofstream(path) << "from before\n";
  const Output output = output_of([&] {
    log::open({.file = path});
    log::info("one");
    log::warn("two");
    log::close();
    log::info("after");
  });
  CHECK(without_times(content_of(path)) == "from before\nT one\nT warning: two\n");
  CHECK(without_times(output.out) == "T one\nT after\n");
  CHECK(without_times(output.err) == "T warning: two\n");
}

TEST_CASE("lines carry their rank when there are several; ranks above 0 keep information to their file") {
  const TemporaryFolder folder;
  const std::string path = folder / "log.txt";
  const Output output = output_of([&] {
    log::open({.rank = 2, .rank_count = 4, .file = path});
    log::info("quiet");
    log::warn("loud");
  });
  CHECK(output.out.empty());
  CHECK(without_times(output.err) == "T [rank 2] warning: loud\n");
  CHECK(without_times(content_of(path)) == "T [rank 2] quiet\nT [rank 2] warning: loud\n");
}

TEST_CASE("a file that cannot be opened costs one warning that names it, not the run") {
  const TemporaryFolder folder;
  std::ofstream(folder / "file") << "not a folder";
  const std::string path = folder / "file/log.txt";
  const Output output = output_of([&] {
    log::open({.file = path});
    log::info("one");
    log::info("two");
  });
  CHECK(count_of("warning: ", output.err) == 1);
  CHECK(count_of(path, output.err) == 1);
  CHECK(without_times(output.out) == "T one\nT two\n");
}

TEST_CASE("a file is there from its first line on") {
  const TemporaryFolder folder;
  const std::string path = folder / "log.txt";
  bool was_there = true;
  output_of([&] {
    log::open({.rank = 3, .rank_count = 4, .file = path});
    was_there = std::filesystem::exists(path);
    log::info("a line");
  });
  CHECK_FALSE(was_there);
  CHECK(without_times(content_of(path)) == "T [rank 3] a line\n");
}

TEST_CASE("a link in place of the file is not followed") {
  const TemporaryFolder folder;
  std::ofstream(folder / "target") << "mine";
  std::filesystem::create_symlink("target", folder / "log.txt");
  const Output output = output_of([&] {
    log::open({.file = folder / "log.txt"});
    log::info("a line");
  });
  CHECK(count_of("is a link", output.err) == 1);
  CHECK(without_times(output.out) == "T a line\n");
  CHECK(content_of(folder / "target") == "mine");
}

TEST_CASE("a pipe that nobody reads in place of the file holds up nothing") {
  const TemporaryFolder folder;
  const std::string path = folder / "log.txt";
  REQUIRE(mkfifo(path.c_str(), 0600) == 0);
  const Output output = output_of([&] {
    log::open({.file = path});
    log::info("a line");
  });
  CHECK(count_of("going on without it", output.err) == 1);
  CHECK(without_times(output.out) == "T a line\n");
}

TEST_CASE("no message forges a line of the log or speaks to the terminal") {
  const Output output = output_of([] { log::info("photo a\n12:34:56 error: forged\x1b[31m.jpg: bad"); });
  CHECK(without_times(output.out) == "T photo a\n  T error: forged?[31m.jpg: bad\n");
}

TEST_CASE("a full disk costs one warning; the console goes on") {
  const Output output = output_of([&] {
    log::open({.file = "/dev/full"});
    for (int line = 0; line < 5; ++line) log::info("line");
  });
  CHECK(count_of("warning: ", output.err) == 1);
  CHECK(count_of("No space left", output.err) == 1);
  CHECK(count_of("line\n", output.out) == 5);
}

TEST_CASE("the status line stands below the log and never in the file") {
  const TemporaryFolder folder;
  const std::string path = folder / "log.txt";
  const Output output = output_of([&] {
    log::open({.file = path, .status_line = true});
    log::status("50 %");
    log::info("message");
    log::status("");
  });
  CHECK(without_times(output.out) == "50 %\r\x1b[KT message\n50 %\r\x1b[K");
  CHECK(without_times(content_of(path)) == "T message\n");
}

TEST_CASE("no status line where none is asked for") {
  const Output output = output_of([] {
    log::open({});
    log::status("50 %");
  });
  CHECK(output.out.empty());
}

TEST_CASE("threads log whole lines") {
  constexpr int kThreads = 4;
  constexpr int kLines = 200;
  const TemporaryFolder folder;
  const std::string path = folder / "log.txt";
  const Output output = output_of([&] {
    log::open({.file = path, .status_line = true});
    std::vector<std::thread> threads;
    for (int thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([] {
        for (int line = 0; line < kLines; ++line) {
          log::info("a line of a thread");
          log::status("working");
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  });
  std::istringstream lines(content_of(path));
  std::size_t count = 0;
  for (std::string line; std::getline(lines, line); ++count) REQUIRE(without_times(line) == "T a line of a thread");
  CHECK(count == kThreads * kLines);
  CHECK(count_of("a line of a thread\n", output.out) == kThreads * kLines);
}
