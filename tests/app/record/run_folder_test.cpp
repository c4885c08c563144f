#include "app/record/run_folder.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "comm/thread_world.h"
#include "core/error.h"
#include "core/files.h"
#include "tests/support/file_helpers.h"
#include "tests/support/temporary_folder.h"

namespace fs = std::filesystem;

using namespace dcs3gd;
using namespace dcs3gd::app;
using dcs3gd::test::contains;
using dcs3gd::test::TemporaryFolder;

namespace {

constexpr uid_t kNobody = 65534;

/// Gives up root's right to write everywhere for a while; nothing changes for other users.
class AsNobody {
 public:
  AsNobody() : saved_(geteuid()) {
    if (saved_ == 0) REQUIRE(seteuid(kNobody) == 0);
  }
  ~AsNobody() {
    if (saved_ == 0 && seteuid(0) != 0) std::abort();
  }
  AsNobody(const AsNobody&) = delete;
  AsNobody& operator=(const AsNobody&) = delete;

 private:
  uid_t saved_;
};

/// Runs `body` in a child process; whether it returned true.
template <typename Body>
bool in_child(Body&& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body() ? 0 : 1);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

TEST_CASE("a run folder names its files") {
  const RunFolder folder("runs/", "resnet20");
  CHECK(folder.path() == "runs/resnet20");
  CHECK(folder.config() == "runs/resnet20/config.yaml");
  CHECK(folder.metrics() == "runs/resnet20/metrics.jsonl");
  CHECK(folder.log(0) == "runs/resnet20/log.txt");
  CHECK(folder.log(3) == "runs/resnet20/log.rank0003.txt");
  CHECK(folder.summary() == "runs/resnet20/summary.json");
  CHECK(folder.trace() == "runs/resnet20/trace.json");
  CHECK(folder.model() == "runs/resnet20/model.safetensors");
  CHECK(folder.best() == "runs/resnet20/best.safetensors");
  CHECK(folder.checkpoints() == "runs/resnet20/checkpoints");
}

TEST_CASE("claiming creates the folder and its parents; one that holds only configuration and logs may be used again") {
  const TemporaryFolder temporary;
  const RunFolder folder(temporary / "a/b", "run");
  { const RunFolderClaim claim(folder, IfUsed::refuse); }
  CHECK(fs::is_directory(folder.path()));
  test::write_file(folder.config(), "run: {}\n");
  test::write_file(folder.log(0), "failed at start\n");
  CHECK_FALSE(folder.is_used());
  { const RunFolderClaim claim(folder, IfUsed::refuse); }
}

TEST_CASE("a used run folder is refused, with what to do") {
  for (const char* file : {"metrics.jsonl", "summary.json", "model.safetensors", "best.safetensors", "checkpoints"}) {
    const TemporaryFolder temporary;
    const RunFolder folder(temporary.path(), "run");
    fs::create_directories(folder.path());
    test::write_file(folder.path() + "/" + file, "");
    CHECK(folder.is_used());
    const Error error = test::error_of([&] { RunFolderClaim(folder, IfUsed::refuse); });
    CHECK(error.kind() == ErrorKind::input);
    CHECK_MESSAGE(contains(error.what(), folder.path()), error.what());
    CHECK_MESSAGE(contains(error.what(), "choose another run.name"), error.what());
    CHECK_MESSAGE(contains(error.what(), "--resume never"), error.what());
    CHECK(fs::exists(folder.path() + "/" + file));
  }
}

TEST_CASE("a used run folder is set aside under the first free number") {
  const TemporaryFolder temporary;
  const RunFolder folder(temporary.path(), "run");
  for (const char* content : {"first", "second", "third"}) {
    const RunFolderClaim claim(folder, IfUsed::set_aside);
    CHECK_FALSE(folder.is_used());
    test::write_file(folder.metrics(), content);
  }
  CHECK(test::content_of(folder.path() + ".1/metrics.jsonl") == "first");
  CHECK(test::content_of(folder.path() + ".2/metrics.jsonl") == "second");
  CHECK(test::content_of(folder.metrics()) == "third");
  CHECK_FALSE(fs::exists(folder.path() + ".3"));
}

TEST_CASE("an unused folder is not set aside") {
  const TemporaryFolder temporary;
  const RunFolder folder(temporary.path(), "run");
  { const RunFolderClaim claim(folder, IfUsed::set_aside); }
  { const RunFolderClaim claim(folder, IfUsed::set_aside); }
  CHECK_FALSE(fs::exists(folder.path() + ".1"));
}

TEST_CASE("a second claim is refused with the holder's name, until the first is given back") {
  const TemporaryFolder temporary;
  const RunFolder folder(temporary.path(), "run");
  for (const IfUsed if_used : {IfUsed::refuse, IfUsed::set_aside}) {
    std::optional<RunFolderClaim> first(std::in_place, folder, IfUsed::set_aside);
    test::write_file(folder.metrics(), "in use");
    const Error error = test::error_of([&] { RunFolderClaim(folder, if_used); });
    CHECK(error.kind() == ErrorKind::input);
    CHECK_MESSAGE(contains(error.what(), "in use by process " + std::to_string(getpid()) + " on "), error.what());
    CHECK(test::content_of(folder.metrics()) == "in use");
    fs::remove(folder.metrics());
    first.reset();
    const RunFolderClaim second(folder, IfUsed::refuse);
  }
}

TEST_CASE("a claim that was made a moment ago is refused with its holder's name, not that of the holder before") {
  const TemporaryFolder temporary;
  const RunFolder folder(temporary.path(), "run");
  fs::create_directories(folder.path());
  for (const std::string before : {"", "process 1 on elsewhere\ngiven back\n"}) {
    test::write_file(folder.lock(), before);
    const FileDescriptor held(folder.lock(), O_RDWR);
    REQUIRE(::flock(held.get(), LOCK_EX) == 0);
    const std::jthread holder([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      std::ofstream(folder.lock()) << "process 2 on this host\n";
    });
    const Error error = test::error_of([&] { RunFolderClaim(folder, IfUsed::go_on); });
    CHECK_MESSAGE(contains(error.what(), "in use by process 2 on this host;"), error.what());
  }
}

TEST_CASE("a process that ends without a word gives its claim back") {
  const TemporaryFolder temporary;
  const RunFolder folder(temporary.path(), "run");
  CHECK(in_child([&] {
    const RunFolderClaim claim(folder, IfUsed::refuse);
    _exit(0);
    return true;
  }));
  const RunFolderClaim claim(folder, IfUsed::refuse);
}

TEST_CASE("a lock file that is removed is made anew; one of another process ends the claim") {
  const TemporaryFolder temporary;
  const RunFolder folder(temporary.path(), "run");
  RunFolderClaim claim(folder, IfUsed::refuse);
  const std::string own = test::content_of(folder.lock());
  CHECK_MESSAGE(contains(own, "process " + std::to_string(getpid()) + " on "), own);
  fs::remove(folder.lock());
  claim.expect_held();
  CHECK(contains(test::content_of(folder.lock()), own.substr(0, own.find('\n'))));
  CHECK(contains(test::error_of([&] { RunFolderClaim(folder, IfUsed::go_on); }).what(), "in use"));

  fs::remove(folder.lock());
  const RunFolderClaim other(folder, IfUsed::go_on);
  CHECK(claim.taken_by().empty());  // not looked at yet
  const Error error = test::error_of([&] { claim.expect_held(); });
  CHECK(error.kind() == ErrorKind::failure);
  CHECK_MESSAGE(contains(error.what(), "was taken over by process "), error.what());
  CHECK_FALSE(claim.taken_by().empty());
  CHECK(other.taken_by().empty());
}

TEST_CASE("a link in place of the lock file is not followed, and what a crash left unfinished goes") {
  const TemporaryFolder temporary;
  const RunFolder folder(temporary.path(), "run");
  fs::create_directories(folder.checkpoints() + "/step-00000001.tmp");
  test::write_file(folder.best() + ".0a1b2c3d.tmp", "half");
  { const RunFolderClaim claim(folder, IfUsed::go_on); }
  CHECK_FALSE(fs::exists(folder.best() + ".0a1b2c3d.tmp"));
  CHECK(fs::exists(folder.checkpoints() + "/step-00000001.tmp"));

  test::write_file(temporary / "target", "mine");
  fs::remove(folder.lock());
  fs::create_symlink(temporary / "target", folder.lock());
  const Error error = test::error_of([&] { RunFolderClaim(folder, IfUsed::go_on); });
  CHECK(error.kind() == ErrorKind::input);
  CHECK_MESSAGE(contains(error.what(), "is a link"), error.what());
  CHECK(test::content_of(temporary / "target") == "mine");
}

TEST_CASE("a folder that a rank does not share is refused, and nothing is left of the question") {
  const TemporaryFolder temporary;
  const auto ask = [&](const std::string& folder_of_last_rank) {
    std::string said;
    try {
      comm::run_ranks_as_threads(3, {}, [&](comm::Communicator& communicator) {
        const bool is_last = communicator.rank() == 2;
        expect_shared(communicator, RunFolder(temporary / (is_last ? folder_of_last_rank : "a"), "run"));
      });
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::input);
      CHECK(error.scope() == ErrorScope::all_ranks);
      said = error.what();
    }
    return said;
  };
  CHECK(ask("a").empty());
  CHECK_FALSE(fs::exists(temporary / "a"));
  fs::create_directories(temporary / "a/run/checkpoints");
  fs::create_directories(temporary / "b/run/checkpoints");
  CHECK(ask("a").empty());
  const std::string refusal = ask("b");
  CHECK_MESSAGE(contains(refusal, "rank 2 on "), refusal);
  CHECK_MESSAGE(contains(refusal, "run.output_dir"), refusal);
  // Only the checkpoints are elsewhere.
  fs::remove_all(temporary / "b");
  fs::create_directories(temporary / "b");
  fs::create_directory_symlink(temporary / "a/run", temporary / "b/run");
  CHECK(ask("b").empty());
  fs::remove(temporary / "b/run");
  CHECK_MESSAGE(contains(ask("b"), "No such file"), "a folder that is missing on the last rank");
  for (const auto& entry : fs::recursive_directory_iterator(temporary.path())) CHECK(entry.is_directory());
}

TEST_CASE("of processes that start together, one gets each folder, and no results are lost") {
  constexpr int kProcesses = 8;
  constexpr int kRounds = 20;
  const TemporaryFolder temporary;
  const RunFolder folder(temporary.path(), "run");
  // Each child claims again and again, and leaves a result with every claim.
  const auto work = [&] {
    int claims = 0;
    for (int round = 0; round < kRounds; ++round) {
      try {
        const RunFolderClaim claim(folder, IfUsed::set_aside);
        if (folder.is_used()) return -1;
        test::write_file(folder.metrics(), "a result");
        ++claims;
      } catch (const Error&) {
      }
    }
    return claims;
  };
  std::vector<pid_t> children;
  for (int process = 0; process < kProcesses; ++process) {
    children.push_back(fork());
    if (children.back() == 0) {
      if (std::freopen("/dev/null", "w", stdout) == nullptr) _exit(255);
      _exit(work());
    }
  }
  int claims = 0;
  for (const pid_t child : children) {
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    REQUIRE(WEXITSTATUS(status) <= kRounds);
    claims += WEXITSTATUS(status);
  }
  int results = 0;
  for (const auto& entry : fs::directory_iterator(temporary.path())) {
    if (fs::exists(entry.path() / "metrics.jsonl")) ++results;
  }
  CHECK(claims > 0);
  CHECK(results == claims);
}

TEST_CASE("a place that cannot be written to is an input error that names it") {
  const TemporaryFolder temporary;
  test::write_file(temporary / "file", "");
  const Error no_folder = test::error_of([&] { RunFolderClaim(RunFolder(temporary / "file", "run"), IfUsed::refuse); });
  CHECK(no_folder.kind() == ErrorKind::input);
  CHECK_MESSAGE(contains(no_folder.what(), "file/run"), no_folder.what());
  CHECK_MESSAGE(contains(no_folder.what(), "run.output_dir"), no_folder.what());

  const RunFolder folder(temporary.path(), "run");
  fs::create_directories(folder.path());
  fs::permissions(temporary.path(),
                  fs::perms::owner_read | fs::perms::owner_exec | fs::perms::others_read | fs::perms::others_exec);
  fs::permissions(folder.path(),
                  fs::perms::owner_read | fs::perms::owner_exec | fs::perms::others_read | fs::perms::others_exec);
  {
    const AsNobody user;
    const Error existing = test::error_of([&] { RunFolderClaim(folder, IfUsed::refuse); });
    CHECK(existing.kind() == ErrorKind::input);
    CHECK_MESSAGE(contains(existing.what(), folder.path() + ": Permission denied"), existing.what());
    const Error parent = test::error_of([&] { RunFolderClaim(RunFolder(temporary.path(), "other"), IfUsed::refuse); });
    CHECK(parent.kind() == ErrorKind::input);
    CHECK_MESSAGE(contains(parent.what(), "other: Permission denied"), parent.what());
  }
  fs::permissions(temporary.path(), fs::perms::owner_all);
  fs::permissions(folder.path(), fs::perms::owner_all);
}
