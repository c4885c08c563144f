#pragma once

#include <cstddef>

/// What this process's TCP sockets hold that has not left yet.
///
/// A socket takes megabytes at once, and what is in it leaves in its order: on a slow link an urgent message waits for
/// all of them, though the progress thread would send it first. The kernel can refuse more while a socket holds a given
/// amount unsent (TCP_NOTSENT_LOWAT, tcp(7)); what has left and is not acknowledged does not count, so that a short
/// queue costs no bandwidth as long as somebody fills it in time.
namespace dcs3gd::comm {

/// Bounds the queue of each TCP socket of this process, whoever opened it, to what its link sends in a few
/// milliseconds; what a link sends is what it was seen to send. To be called again: MPI opens sockets when it needs
/// them, and links are seen to be fast only when they are used. Returns the number of sockets. Any thread.
std::size_t bound_socket_queues();

}  // namespace dcs3gd::comm
