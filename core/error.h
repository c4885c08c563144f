#pragma once

#include <stdexcept>
#include <string>

namespace dcs3gd {

/// Why a run ends before its time; the value is the process's exit code.
enum class ErrorKind {
  failure = 1,   ///< something broke: I/O, memory, a lost peer, a bug
  input = 2,     ///< usage, configuration or input data: nothing was started
  diverged = 3,  ///< NaN, Inf or the loss limit
};

/// Whether one rank or all ranks throw an error: decides between abort and orderly exit.
enum class ErrorScope {
  this_rank,  ///< perhaps no other: the rest of the job has to be ended
  all_ranks,  ///< all ranks, the same one at the same point of the program: all leave in order
};

/// The one exception type for what ends a run. The message says where, what was expected, what was found and what
/// to do. Expected events (end of an epoch, a skipped image) are return values, never exceptions.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message, ErrorScope scope = ErrorScope::this_rank)
      : std::runtime_error(message), kind_(kind), scope_(scope) {}

  ErrorKind kind() const { return kind_; }
  ErrorScope scope() const { return scope_; }
  int exit_code() const { return static_cast<int>(kind_); }

 private:
  ErrorKind kind_;
  ErrorScope scope_;
};

}  // namespace dcs3gd
