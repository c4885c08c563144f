#include "app/job/agreement.h"

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "comm/thread_world.h"
#include "core/stopwatch.h"
#include "tests/support/file_helpers.h"

using namespace dcs3gd;

namespace {

constexpr int kRanks = 3;

/// What every rank of a world of threads throws from agree() when `task` is done on rank after rank.
void expect_agreement(const std::function<void(int)>& task, ErrorKind kind, const std::string& message) {
  std::atomic<int> thrown = 0;
  comm::run_ranks_as_threads(kRanks, {}, [&](comm::Communicator& communicator) {
    const Error error = test::error_of([&] { app::agree(communicator, [&] { task(communicator.rank()); }); });
    const bool as_expected =
        error.kind() == kind && error.scope() == ErrorScope::all_ranks && test::contains(error.what(), message);
    if (as_expected) ++thrown;
  });
  CHECK(thrown == kRanks);
}

}  // namespace

TEST_CASE("ranks that all succeed go on") {
  std::atomic<int> done = 0;
  comm::run_ranks_as_threads(kRanks, {},
                             [&](comm::Communicator& communicator) { app::agree(communicator, [&] { ++done; }); });
  CHECK(done == kRanks);
}

TEST_CASE("an error of one rank is thrown on all, and the rank is named") {
  expect_agreement(
      [](int rank) {
        if (rank == 1) throw Error(ErrorKind::input, "no such data");
      },
      ErrorKind::input, "rank 1 on ");
}

TEST_CASE("an error of all ranks is thrown in the words of rank 0") {
  expect_agreement([](int rank) { throw Error(ErrorKind::input, "rank" + std::to_string(rank)); }, ErrorKind::input,
                   "rank0");
}

TEST_CASE("what rank 0 does for all may take longer than the time-out, if it gives signs of life") {
  comm::run_ranks_as_threads(kRanks, {.timeout_s = 2}, [&](comm::Communicator& communicator) {
    const Stopwatch watch;
    app::agree_on_rank_0(communicator, "a long task", [&](const app::SignOfLife& sign) {
      for (; watch.elapsed_s() < 5; std::this_thread::sleep_for(std::chrono::milliseconds(20))) sign();
    });
    CHECK(watch.elapsed_s() >= 5);
    const Error error = test::error_of([&] {
      app::agree_on_rank_0(communicator, "a task", [](const app::SignOfLife& sign) {
        sign();
        throw Error(ErrorKind::input, "cannot be done");
      });
    });
    CHECK(test::contains(error.what(), "cannot be done"));
    CHECK(error.scope() == ErrorScope::all_ranks);
  });
}

TEST_CASE("foreign exceptions count as failures") {
  expect_agreement([](int) { throw std::runtime_error("out of luck"); }, ErrorKind::failure, "out of luck");
}

TEST_CASE("the exit code of a part is that of its error") {
  comm::run_ranks_as_threads(kRanks, {}, [&](comm::Communicator& communicator) {
    CHECK(app::exit_code_in_job(communicator, [] { return 75; }) == 75);
    CHECK(app::exit_code_in_job(communicator, []() -> int {
            throw Error(ErrorKind::diverged, "as a test demands", ErrorScope::all_ranks);
          }) == 3);
    communicator.barrier();  // an error that all ranks met ends no world
  });
}

TEST_CASE("ranks that have the same go on; the odd one is named with what it has") {
  const auto error_with = [](const std::function<std::string(int)>& text) {
    std::string message;
    comm::run_ranks_as_threads(kRanks, {}, [&](comm::Communicator& communicator) {
      const std::optional<Error> error = app::attempt([&] {
        app::expect_same(communicator, ErrorKind::input, "list", text(communicator.rank()), "make them equal");
      });
      if (communicator.rank() != 0) return;
      if (error) message = error->what();
      CHECK((!error || error->scope() == ErrorScope::all_ranks));
    });
    return message;
  };
  CHECK(error_with([](int) { return "a\nb"; }).empty());

  const std::string odd_first = error_with([](int rank) { return rank == 0 ? "a\nc" : "a\nb"; });
  CHECK(test::contains(odd_first, "rank 0 on "));
  CHECK(test::contains(odd_first, "another list than on rank 1 on "));
  CHECK(test::contains(odd_first, ": 'c' instead of 'b'; make them equal"));
  CHECK_FALSE(test::contains(odd_first, "no majority"));
  const std::string all_differ = error_with([](int rank) { return std::to_string(rank); });
  CHECK(test::contains(all_differ, "(no majority says which of them is wrong)"));

  const std::string shorter = error_with([](int rank) { return rank == 2 ? "a" : "a\nb\nc\nd\ne\nf\ng"; });
  CHECK(shorter.starts_with("rank 2 on "));
  CHECK(test::contains(shorter, "'(nothing)' instead of 'b'"));
  CHECK(test::contains(shorter, "and 1 more"));
}
