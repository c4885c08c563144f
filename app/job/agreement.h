#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "comm/communicator.h"
#include "core/error.h"

/// How all ranks of a run come to the same end when preparing it fails on some of them, or on all: told once, by rank
/// 0, with the exit code of the cause, and without killing anyone.
namespace dcs3gd::app {

/// What `task` throws; none if it succeeds.
std::optional<Error> attempt(const std::function<void()>& task);

/// The failure of `task` that all ranks meet, none if it succeeds; whatever else it throws is thrown on.
std::optional<Error> failure_of_all(const std::function<void()>& task);

/// Collective: if a rank has an error, throws the first rank's with ErrorScope::all_ranks, on all of them.
void agree(comm::Communicator& communicator, const std::optional<Error>& mine);

/// Collective: does `task`, which must not communicate, on every rank, and agrees on how it went.
void agree(comm::Communicator& communicator, const std::function<void()>& task);

/// What a long task calls now and then.
using SignOfLife = std::function<void()>;

/// Collective: rank 0 does `task`, which must not communicate and is called `what` ("timing convolutions"), while the
/// others wait; agrees on how it went. As long as the task gives signs of life, a few a second, it may take longer than
/// comm.timeout_s, and a warning says after ten seconds that it goes on, and again whenever it has taken twice as long.
void agree_on_rank_0(comm::Communicator& communicator, std::string_view what,
                     const std::function<void(const SignOfLife&)>& task);

/// Collective: throws Error{kind} with ErrorScope::all_ranks if the ranks do not all have the same text. It names the
/// odd ranks, says whether a majority makes them that, and, of the first of them, the lines that differ. `what` is
/// "configuration" or the like, `advice` what to do.
void expect_same(comm::Communicator& communicator, ErrorKind kind, std::string_view what, const std::string& mine,
                 std::string_view advice);

/// What `part` throws on this rank. If ranks are lost and the others can go on without them
/// (Communicator::has_lost_ranks), it begins again on those.
std::optional<Error> attempt_without_lost(comm::Communicator& communicator, const std::function<void()>& part);

/// Runs a rank's part of a job and returns the exit code: the part's own, or that of what attempt_without_lost()
/// brings. That goes to the log: once, by rank 0, if all ranks met it; else this rank ends the whole job.
int exit_code_in_job(comm::Communicator& communicator, const std::function<int()>& part);

}  // namespace dcs3gd::app
