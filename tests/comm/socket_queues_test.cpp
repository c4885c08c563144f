#include "comm/socket_queues.h"

#include <array>
#include <cstddef>

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace dcs3gd::comm {
namespace {

/// Two sockets connected over loopback; nobody reads from the second.
class Connection {
 public:
  Connection() {
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const as_any = reinterpret_cast<sockaddr*>(&address);
    REQUIRE(bind(listener, as_any, size) == 0);
    REQUIRE(listen(listener, 1) == 0);
    REQUIRE(getsockname(listener, as_any, &size) == 0);
    sender_ = socket(AF_INET, SOCK_STREAM, 0);
    REQUIRE(connect(sender_, as_any, size) == 0);
    receiver_ = accept(listener, nullptr, nullptr);
    REQUIRE(receiver_ >= 0);
    close(listener);
    fcntl(sender_, F_SETFL, O_NONBLOCK);
  }
  ~Connection() {
    close(sender_);
    close(receiver_);
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// Sends until the system takes no more; bytes that have not left.
  int fill() const {
    const std::array<std::byte, 1 << 14> bytes{};
    while (send(sender_, bytes.data(), bytes.size(), MSG_NOSIGNAL) > 0) {
    }
    int unsent = 0;
    REQUIRE(ioctl(sender_, SIOCOUTQNSD, &unsent) == 0);
    return unsent;
  }

 private:
  int sender_ = -1;
  int receiver_ = -1;
};

}  // namespace

TEST_CASE("a socket takes no more than its link sends in a moment, whoever opened it") {
  const Connection unbounded;
  const Connection bounded;
  const int usual = unbounded.fill();
  CHECK(bound_socket_queues() >= 4);
  const int unsent = bounded.fill();
  CHECK(unsent < 200'000);
  CHECK(unsent < usual / 2);
}

}  // namespace dcs3gd::comm
