#include "comm/progress_thread.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <dirent.h>
#include <doctest/doctest.h>
#include <time.h>

#include "comm/communicator.h"
#include "comm/thread_world.h"
#include "core/error.h"
#include "core/log.h"
#include "tests/support/file_helpers.h"
#include "tests/support/temporary_folder.h"

namespace dcs3gd::comm {
namespace {

using std::chrono::milliseconds;

double process_cpu_s() {
  timespec used{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + 1e-9 * static_cast<double>(used.tv_nsec);
}

/// The names of this process's threads.
std::vector<std::string> thread_names() {
  std::vector<std::string> names;
  DIR* folder = opendir("/proc/self/task");
  while (const dirent* entry = readdir(folder)) {
    std::ifstream file(std::string("/proc/self/task/") + entry->d_name + "/comm");
    if (std::string name; std::getline(file, name)) names.push_back(name);
  }
  closedir(folder);
  return names;
}

/// Waits until somebody opens the gate.
class GatedOperation final : public Operation {
 public:
  enum class Company { any, none };

  GatedOperation(const std::atomic<bool>& open, Company company) : open_(open), company_(company) {}
  void start(int) override {}
  Step step() override { return open_ ? Step::done : Step::waiting; }
  bool runs_alone() const override { return company_ == Company::none; }
  std::string name() const override { return "gate"; }
  std::string waits_for() const override { return "the gate"; }

 private:
  const std::atomic<bool>& open_;
  const Company company_;
};

/// Never stands still, and never ends.
class BusyOperation final : public Operation {
 public:
  void start(int) override {}
  Step step() override { return Step::moved; }
  std::string name() const override { return "treadmill"; }
  std::string waits_for() const override { return "nothing"; }
};

const std::atomic<bool> kOpen = true;

std::shared_ptr<Job> submit(ProgressThread& progress, const std::atomic<bool>& open,
                            GatedOperation::Company company = GatedOperation::Company::any) {
  const auto job = std::make_shared<Job>(std::make_unique<GatedOperation>(open, company));
  progress.submit(job);
  return job;
}

ProgressThread::OpenTransport solo() {
  return [] { return open_thread_transport(make_thread_world(1), 0); };
}

TEST_CASE("it is alive, named and open when the constructor returns, and gone after the destructor") {
  const auto count = [] {
    const std::vector<std::string> names = thread_names();
    return std::count(names.begin(), names.end(), "dcs3gd-comm");
  };
  CHECK(count() == 0);
  {
    ProgressThread progress(solo(), 1);
    CHECK(count() == 1);
    CHECK(progress.transport().size() == 1);
  }
  CHECK(count() == 0);
}

TEST_CASE("what opening throws comes out of the constructor") {
  const ProgressThread::OpenTransport broken = []() -> std::unique_ptr<Transport> {
    throw Error(ErrorKind::input, "no world");
  };
  CHECK_THROWS_WITH_AS(ProgressThread(broken, 1), "no world", Error);
}

TEST_CASE("idle it uses less than one percent of a core") {
  ProgressThread progress(solo(), 1);
  const double before_s = process_cpu_s();
  std::this_thread::sleep_for(milliseconds(500));
  CHECK(process_cpu_s() - before_s < 0.005);
}

TEST_CASE("an operation that stands still is not watched without pause") {
  std::atomic<bool> open = false;
  ProgressThread progress(solo(), 10);
  const auto job = submit(progress, open);
  const double before_s = process_cpu_s();
  std::this_thread::sleep_for(milliseconds(500));
  CHECK(process_cpu_s() - before_s < 0.05);
  CHECK_FALSE(job->wait_for(0));
  open = true;
  CHECK(progress.wait(*job).duration_ms > 400);
}

TEST_CASE("an operation that stands still does not hold up the next one") {
  std::atomic<bool> open = false;
  ProgressThread progress(solo(), 10);
  const auto first = submit(progress, open);
  progress.wait(*submit(progress, kOpen));
  CHECK_FALSE(first->wait_for(0));
  open = true;
  progress.wait(*first);
}

TEST_CASE("who runs alone waits for those before, and those after wait for it") {
  std::atomic<bool> first_open = false;
  std::atomic<bool> alone_open = false;
  ProgressThread progress(solo(), 10);
  const auto first = submit(progress, first_open);
  const auto alone = submit(progress, alone_open, GatedOperation::Company::none);
  const auto last = submit(progress, kOpen);
  alone_open = true;
  std::this_thread::sleep_for(milliseconds(50));
  CHECK_FALSE(alone->wait_for(0));
  alone_open = false;
  first_open = true;
  progress.wait(*first);
  std::this_thread::sleep_for(milliseconds(50));
  CHECK_FALSE(last->wait_for(0));
  alone_open = true;
  progress.wait(*alone);
  progress.wait(*last);
}

TEST_CASE("each operation has a time-out of its own, and all fail with the error of the first") {
  const std::atomic<bool> open = false;
  ProgressThread progress(solo(), 0.2);
  const auto busy = std::make_shared<Job>(std::make_unique<BusyOperation>());
  progress.submit(busy);
  const auto stuck = submit(progress, open);
  CHECK(test::contains(test::error_of([&] { progress.wait(*stuck); }).what(), "gate: no progress for "));
  CHECK(test::contains(test::error_of([&] { progress.wait(*busy); }).what(), "gate: no progress for "));
  CHECK(test::contains(test::error_of([&] { progress.wait(*submit(progress, kOpen)); }).what(), "gate: no progress"));
}

TEST_CASE("a time-out that no clock can count is never") {
  for (const double timeout_s : {1e10, 1e300}) {
    std::atomic<bool> open = false;
    ProgressThread progress(solo(), timeout_s);
    const auto job = submit(progress, open);
    CHECK_FALSE(job->wait_for(0.1));
    open = true;
    progress.wait(*job);
  }
}

TEST_CASE("a rank may stand still for as long as steps are known to take") {
  std::atomic<bool> open = false;
  ProgressThread progress(solo(), 0.1);
  progress.allow_for(100);
  const auto job = submit(progress, open);
  CHECK_FALSE(job->wait_for(0.5));
  open = true;
  progress.wait(*job);
}

TEST_CASE("a stall is told of, and its end when that operation moves, whatever others do meanwhile") {
  const test::TemporaryFolder folder;
  const std::string path = folder / "log.txt";
  const auto lines_with = [&](const std::string& words) {
    int count = 0;
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) count += line.find(words) != std::string::npos ? 1 : 0;
    return count;
  };
  std::atomic<bool> open = false;
  constexpr double kLongTimeout_s = 6;  // told of after a third
  log::open({.file = path});
  {
    ProgressThread progress(solo(), kLongTimeout_s);
    const auto stuck = submit(progress, open);
    while (lines_with("no progress for") == 0) std::this_thread::sleep_for(milliseconds(100));
    for (int i = 0; i < 3; ++i) progress.wait(*submit(progress, kOpen));
    CHECK(lines_with("goes on") == 0);
    open = true;
    progress.wait(*stuck);
  }
  log::close();
  CHECK(lines_with("no progress for") >= 1);
  CHECK(lines_with("goes on after") == 1);
  CHECK(lines_with("goes on after 0 s") == 0);
}

TEST_CASE("the destructor finishes what was submitted") {
  std::atomic<bool> open = false;
  std::shared_ptr<Job> job;
  std::thread opener([&] {
    std::this_thread::sleep_for(milliseconds(50));
    open = true;
  });
  {
    ProgressThread progress(solo(), 10);
    job = submit(progress, open);
  }
  opener.join();
  CHECK(job->wait_for(0));
  CHECK(job->take_result().duration_ms > 0);
}

TEST_CASE("abort ends an operation that stands still") {
  const std::atomic<bool> open = false;
  ProgressThread progress(solo(), 60);
  const auto job = submit(progress, open);
  progress.abort(1, "enough");
  CHECK_THROWS_WITH_AS(progress.wait(*job), "the job was ended: enough", Error);
  CHECK(progress.failed());
}

TEST_CASE("it can be confined to a core that exists") {
  ProgressThread progress(solo(), 1);
  CHECK(progress.pin(find_own_place().cores.back()));
  CHECK_FALSE(progress.pin(1000));
  CHECK_FALSE(progress.pin(-1));
}

TEST_CASE("a core that does not exist is a warning, not an error") {
  const auto communicator = Communicator::open({.core = 1000});
  CHECK_FALSE(communicator->pin_progress_thread(1));
  const auto pinned = Communicator::open({.core = find_own_place().cores.front()});
  CHECK(pinned->pin_progress_thread(1000) == find_own_place().cores.front());
  const auto roaming = Communicator::open({});
  CHECK_FALSE(roaming->pin_progress_thread(1000));
}

}  // namespace
}  // namespace dcs3gd::comm
