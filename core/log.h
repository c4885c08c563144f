#pragma once

#include <string>
#include <string_view>

/// The log of a process: one of its three global states (the others: the trace, the MPI session). Information goes to
/// standard output, warnings and errors to standard error, everything also to a file once one is open. Before open()
/// and after close() messages go to the console only. Thread-safe but for open() and close(), which no other call may
/// overlap.
namespace dcs3gd::log {

struct Options {
  int rank = 0;
  int rank_count = 1;  ///< with more than one rank, lines carry their rank; ranks > 0 show warnings and errors only
  std::string file;    ///< appended to; empty for none. Failing to write is one warning, never the end of a run. With a
                       ///< file, lines that a reader of the console's pipe does not take in time are left out there
  bool status_line = false;  ///< whether status() draws: only when standard output is a terminal
};

void open(const Options& options);
/// Flushes and closes the file.
void close();

void info(std::string_view message);
void warn(std::string_view message);
void error(std::string_view message);

/// Shows `line` below the log (a progress bar); lines logged later appear above it. Empty removes it. Nothing happens
/// unless Options::status_line is set. Never written to the file.
void status(std::string_view line);

}  // namespace dcs3gd::log
