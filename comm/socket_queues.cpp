#include "comm/socket_queues.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <filesystem>
#include <limits>
#include <string>
#include <system_error>

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace dcs3gd::comm {
namespace {

constexpr double kQueue_s = 1e-2;             // a progress thread that shares its core comes back sooner, as a rule
constexpr double kLeastQueueBytes = 1 << 17;  // two segments

bool is_tcp(int socket) {
  int protocol = 0;
  socklen_t size = sizeof(protocol);
  return getsockopt(socket, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) == 0 && protocol == IPPROTO_TCP;
}

/// 0 while the kernel has not seen any.
double bytes_per_s(int socket) {
  tcp_info info{};
  socklen_t size = sizeof(info);
  const bool is_told = getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 &&
                       size >= offsetof(tcp_info, tcpi_delivery_rate) + sizeof(info.tcpi_delivery_rate);
  return is_told ? static_cast<double>(info.tcpi_delivery_rate) : 0;
}

}  // namespace

std::size_t bound_socket_queues() {
  std::size_t sockets = 0;
  std::error_code error;
  std::filesystem::directory_iterator files("/proc/self/fd", error);
  for (; !error && files != std::filesystem::directory_iterator(); files.increment(error)) {
    const std::string name = files->path().filename();
    int file = -1;
    std::from_chars(name.data(), name.data() + name.size(), file);
    if (!is_tcp(file)) continue;
    const double queue_bytes = std::max(kLeastQueueBytes, kQueue_s * bytes_per_s(file));
    const auto bound = static_cast<int>(std::min<double>(queue_bytes, std::numeric_limits<int>::max()));
    if (setsockopt(file, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bound, sizeof(bound)) == 0) ++sockets;
  }
  return sockets;
}

}  // namespace dcs3gd::comm
