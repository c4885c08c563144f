#pragma once

namespace dcs3gd::app {

/// `dcs3gd-bench nn|comm|step|scale|update|loader`: what this machine or cluster can do. Returns the exit code; throws
/// Error{input} for a command line that asks for what there is not.
int run_bench_command(int argc, const char* const* argv);

}  // namespace dcs3gd::app
