#pragma once

#include <functional>
#include <memory>

#include "comm/communicator.h"
#include "comm/options.h"
#include "comm/transport.h"

namespace dcs3gd::comm {

/// A body that throws this is a rank that dies: the others lose it.
struct RankDies {};

/// Calls `body` on `rank_count` threads, each with the communicator of its own rank: a whole world in one process, for
/// tests and sanitizers. When a body throws, its rank aborts the world, so the others fail too instead of waiting;
/// after all have ended the first exception is thrown again here. `wrap` may put something around each rank's
/// transport.
using WrapTransport = std::function<std::unique_ptr<Transport>(std::unique_ptr<Transport>)>;
void run_ranks_as_threads(int rank_count, const Options& options, const std::function<void(Communicator&)>& body,
                          const WrapTransport& wrap = std::identity());

/// The mailboxes that the ranks of such a world share.
class ThreadWorld;
std::shared_ptr<ThreadWorld> make_thread_world(int rank_count);
/// The end of one rank. A world of one rank is the solo world: nothing ever travels.
std::unique_ptr<Transport> open_thread_transport(std::shared_ptr<ThreadWorld> world, int rank);

}  // namespace dcs3gd::comm
