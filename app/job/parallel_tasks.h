#pragma once

#include <cstdint>
#include <functional>

namespace dcs3gd::app {

/// Calls task(0) … task(count − 1), each once, on `threads` threads; returns when all are done. After an exception no
/// further task is begun, and the first one comes out here.
void run_tasks(std::uint64_t count, int threads, const std::function<void(std::uint64_t)>& task);

}  // namespace dcs3gd::app
