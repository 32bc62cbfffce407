#include "protocol/client.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cerrno>
#include <functional>
#include <thread>
#include <vector>

namespace flexins::protocol {
namespace {

/// A client on one end of a socket pair, a thread that answers one request on the other.
class Client : public testing::Test {
 protected:
  Client() {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    client.adopt(base::UniqueFd(ends[0]));
    peer.reset(ends[1]);
  }

  /// Receives a request, lets `make` turn a plausible reply into what is sent back.
  void answer(const std::function<void(AllocatePdReply&, size_t& bytes)>& make,
              std::vector<int> fds = {}) {
    server = std::thread([this, make, fds] {
      std::byte buffer[kMaxMessageBytes];
      ReceivedFds with;
      const auto got = receive_message(peer.get(), buffer, with);
      EXPECT_EQ(got.error, 0);
      received_fds = with.count;
      AllocatePdReply sent{};
      std::memcpy(&sent.header, buffer, sizeof sent.header);
      EXPECT_EQ(sent.header.length, got.bytes);
      sent.header.length = sizeof sent;
      sent.pd = 77;
      size_t bytes = sizeof sent;
      make(sent, bytes);
      const auto* from = reinterpret_cast<const std::byte*>(&sent);
      EXPECT_EQ(send_message(peer.get(), {from, bytes}, fds), 0);
    });
  }

  int call(std::span<const int> fds = {}, ReceivedFds* received = nullptr) {
    AllocatePdRequest request{};
    const int error = client.call(request, reply, fds, received);
    if (server.joinable()) server.join();
    return error;
  }

  SessionClient client;
  base::UniqueFd peer;
  AllocatePdReply reply{};
  std::thread server;
  uint32_t received_fds = 0;
};

TEST_F(Client, ExchangesMessagesAndDescriptors) {
  const base::UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  answer([](auto&, size_t&) {}, {null.get(), null.get()});
  ReceivedFds fds;
  const int sent[] = {null.get(), null.get(), null.get()};
  EXPECT_EQ(call(sent, &fds), 0);
  EXPECT_EQ(reply.pd, 77u);
  EXPECT_EQ(received_fds, 3u);
  EXPECT_EQ(fds.count, 2u);
  EXPECT_TRUE(fds.take(1).valid());
  EXPECT_FALSE(fds.take(2).valid());
}

TEST_F(Client, CarriesAsManyDescriptorsAsTheProtocolAllows) {
  const base::UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  const std::vector<int> all(kMaxDescriptors, null.get());
  answer([](auto&, size_t&) {}, all);
  ReceivedFds fds;
  EXPECT_EQ(call(all, &fds), 0);
  EXPECT_EQ(received_fds, kMaxDescriptors);
  EXPECT_EQ(fds.count, kMaxDescriptors);
  const std::vector<int> more(kMaxDescriptors + 1, null.get());
  EXPECT_EQ(call(more), EINVAL);
}

TEST_F(Client, AStatusMayComeWithoutABody) {
  answer([](AllocatePdReply& r, size_t& bytes) {
    r.header.status = ENOSPC;
    r.header.length = bytes = sizeof(MessageHeader);
  });
  EXPECT_EQ(call(), ENOSPC);
}

TEST_F(Client, AReplyThatIsNoneIsAProtocolError) {
  answer([](AllocatePdReply& r, size_t&) { ++r.header.sequence; });
  EXPECT_EQ(call(), EPROTO);
  answer([](AllocatePdReply& r, size_t&) { ++r.header.type; });
  EXPECT_EQ(call(), EPROTO);
  answer([](AllocatePdReply& r, size_t&) { ++r.header.length; });
  EXPECT_EQ(call(), EPROTO);
  answer([](AllocatePdReply& r, size_t& bytes) { r.header.length = bytes = 18; });
  EXPECT_EQ(call(), EPROTO) << "done, but cut short";
  answer([](AllocatePdReply&, size_t& bytes) { bytes = 7; });
  EXPECT_EQ(call(), EPROTO);
}

TEST_F(Client, AGonePeerIsAReset) {
  peer.reset();
  EXPECT_EQ(call(), ECONNRESET);
  client.abandon();
  EXPECT_EQ(call(), ECONNRESET);
}

TEST_F(Client, ATooLongMessageIsNoticed) {
  std::vector<std::byte> large(100);
  ASSERT_EQ(send_message(client.descriptor(), large, {}), 0);
  std::byte small[10];
  ReceivedFds fds;
  EXPECT_EQ(receive_message(peer.get(), small, fds).error, EMSGSIZE);
  EXPECT_EQ(receive_message(peer.get(), small, fds, MSG_DONTWAIT).error, EAGAIN);
}

}  // namespace
}  // namespace flexins::protocol
