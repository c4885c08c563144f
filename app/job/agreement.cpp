#include "app/job/agreement.h"

#include <algorithm>
#include <exception>
#include <map>
#include <new>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "core/format.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/reminder.h"
#include "core/stopwatch.h"

namespace dcs3gd::app {
namespace {

/// An error as a blob: a digit for its kind, then the message. Empty: none.
std::string pack(const std::optional<Error>& error) {
  return error ? format("{}{}", error->exit_code(), error->what()) : "";
}

Error unpack(const std::string& blob, const std::string& origin) {
  return {static_cast<ErrorKind>(blob.front() - '0'), origin + blob.substr(1), ErrorScope::all_ranks};
}

/// The first rank that has what most have.
std::size_t rank_of_majority(const std::vector<std::string>& hashes) {
  std::map<std::string_view, int> votes;
  for (const std::string& hash : hashes) ++votes[hash];
  const auto votes_for = [&](const std::string& hash) { return votes[hash]; };
  return static_cast<std::size_t>(std::ranges::max_element(hashes, {}, votes_for) - hashes.begin());
}

/// The first lines that differ between what an odd rank has and what is usual.
std::string difference(const std::string& odd, const std::string& usual) {
  constexpr int kMostLines = 5;
  std::istringstream odd_lines(odd);
  std::istringstream usual_lines(usual);
  std::string text;
  int differing = 0;
  for (std::string here, there;;) {
    const bool more_here = static_cast<bool>(std::getline(odd_lines, here));
    const bool more_there = static_cast<bool>(std::getline(usual_lines, there));
    if (!more_here && !more_there) break;
    if (!more_here) here = "(nothing)";
    if (!more_there) there = "(nothing)";
    if (here == there) continue;
    if (++differing <= kMostLines) text += format("{}'{}' instead of '{}'", text.empty() ? "" : ", ", here, there);
  }
  return differing > kMostLines ? format("{} and {} more", text, differing - kMostLines) : text;
}

}  // namespace

std::optional<Error> attempt(const std::function<void()>& task) {
  try {
    task();
    return std::nullopt;
  } catch (const Error& error) {
    return error;
  } catch (const std::system_error& error) {
    if (error.code() != std::errc::resource_unavailable_try_again) return Error(ErrorKind::failure, error.what());
    return Error(ErrorKind::failure,
                 "a thread cannot be started: there are as many processes and threads as the user (ulimit -u) or the "
                 "control group (pids.max) may have, or no memory for one more (ulimit -v)");
  } catch (const std::bad_alloc&) {
    return Error(ErrorKind::failure, "out of memory");
  } catch (const std::exception& error) {
    return Error(ErrorKind::failure, error.what());
  }
}

std::optional<Error> failure_of_all(const std::function<void()>& task) {
  try {
    task();
    return std::nullopt;
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::failure || error.scope() != ErrorScope::all_ranks) throw;
    return error;
  }
}

void agree(comm::Communicator& communicator, const std::optional<Error>& mine) {
  const std::vector<std::string> blobs = communicator.all_gather(pack(mine));
  for (std::size_t rank = 0; rank < blobs.size(); ++rank) {
    if (blobs[rank].empty()) continue;
    // What rank 0 meets is mostly met by all; what another rank meets before it says something about that rank.
    const std::string origin = rank == 0 ? "" : format("rank {} on {}: ", rank, communicator.places()[rank].host);
    throw unpack(blobs[rank], origin);
  }
}

void agree(comm::Communicator& communicator, const std::function<void()>& task) { agree(communicator, attempt(task)); }

void agree_on_rank_0(comm::Communicator& communicator, std::string_view what,
                     const std::function<void(const SignOfLife&)>& task) {
  constexpr double kSilence_s = 0.2;  // far within any comm.timeout_s
  constexpr double kWordless_s = 10;
  constexpr const char* kAtWork = "at work";
  std::optional<Error> error;
  if (communicator.rank() == 0) {
    const Stopwatch watch;
    Stopwatch silence;
    Reminder reminder;
    error = attempt([&] {
      task([&] {
        if (silence.elapsed_s() < kSilence_s) return;
        communicator.from_rank_0(kAtWork);
        silence.restart_s();
        if (!reminder.is_due(watch.elapsed_s(), kWordless_s)) return;
        log::warn(format("{} takes a while: {:.0f} s so far", what, watch.elapsed_s()));
      });
    });
    communicator.from_rank_0("");
  } else {
    while (communicator.from_rank_0("") == kAtWork) {
    }
  }
  agree(communicator, error);
}

void expect_same(comm::Communicator& communicator, ErrorKind kind, std::string_view what, const std::string& mine,
                 std::string_view advice) {
  const std::vector<std::string> hashes = communicator.all_gather(hash_text(mine));
  const std::size_t usual = rank_of_majority(hashes);
  std::vector<std::size_t> odd;
  for (std::size_t rank = 0; rank < hashes.size(); ++rank) {
    if (hashes[rank] != hashes[usual]) odd.push_back(rank);
  }
  if (odd.empty()) return;
  const auto own = static_cast<std::size_t>(communicator.rank());
  const bool is_told = own == usual || own == odd.front();
  const std::vector<std::string> texts = communicator.all_gather(is_told ? mine : "");
  std::string names;
  for (const std::size_t rank : odd) {
    names += format("{}rank {} on {}", names.empty() ? "" : ", ", rank, communicator.places()[rank].host);
  }
  const bool has_majority = 2 * odd.size() < hashes.size();
  throw Error(
      kind,
      format("{}: another {} than on rank {} on {}{}: {}; {}", names, what, usual, communicator.places()[usual].host,
             has_majority ? "" : " (no majority says which of them is wrong)",
             difference(texts[odd.front()], texts[usual]), advice),
      ErrorScope::all_ranks);
}

std::optional<Error> attempt_without_lost(comm::Communicator& communicator, const std::function<void()>& part) {
  const auto whole_part = [&] {
    part();
    communicator.barrier();  // a rank that is lost now is missed by all, or by none
  };
  std::optional<Error> error = attempt(whole_part);
  for (int left = communicator.size(); error && communicator.has_lost_ranks() && left > 0; --left) {
    error = attempt([&] {
      const std::string lost = communicator.regroup();
      if (communicator.rank() == 0) {
        log::warn(format("lost: {}; going on with {} of the job's ranks", lost, communicator.size()));
      }
      whole_part();
    });
  }
  return error;
}

int exit_code_in_job(comm::Communicator& communicator, const std::function<int()>& part) {
  int exit_code = 0;
  const std::optional<Error> error = attempt_without_lost(communicator, [&] { exit_code = part(); });
  if (!error) return exit_code;
  if (communicator.size() > 1 && error->scope() == ErrorScope::this_rank) {
    communicator.abort(error->what(), error->exit_code());
  } else if (communicator.rank() == 0) {
    log::error(error->what());
  }
  return error->exit_code();
}

}  // namespace dcs3gd::app
