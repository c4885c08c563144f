#pragma once

#include <string>

namespace dcs3gd {

/// First thing in a thread of ours: gives it a name that debuggers and top show (at most 15 letters), and keeps signals
/// from it, which are the main thread's business.
void begin_helper_thread(const std::string& name);

}  // namespace dcs3gd
