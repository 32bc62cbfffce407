#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "cm/manager.h"

namespace flexins::cm {

/// Replays from a seed.
class TestRandom final : public base::RandomSource {
 public:
  explicit TestRandom(uint64_t seed) : state_(seed) {}
  uint64_t next() noexcept override {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return state_ ^ (state_ >> 29);
  }

 private:
  uint64_t state_;
};

inline wire::IpAddress address(uint8_t last) {
  const uint8_t octets[4] = {10, 0, 0, last};
  return wire::IpAddress::from_v4(octets);
}

/// One manager at an address.
struct Node {
  Node(uint8_t number, const Config& config)
      : self(address(number)), random(number), manager(config, random) {}

  wire::IpAddress self;
  TestRandom random;
  Manager manager;

  [[nodiscard]] Path to(const Node& other) const {
    Path path;
    path.local = self;
    path.remote = other.self;
    return path;
  }
};

/// Two managers and the link between them, in virtual time.
class Pair : public testing::Test {
 protected:
  static constexpr uint64_t kService = 0x0106'1234;
  static constexpr uint8_t kAckTimeout = 16;  // 268 ms
  enum Fate : uint8_t { kDeliver, kLose, kHold };

  static Config config() {
    Config config;
    config.ca_guid = 42;
    config.retries_max = 3;
    return config;
  }

  /// Delivers all that wants to leave, and what that leads to.
  void run() {
    for (bool moved = true; moved;) {
      moved = false;
      for (Node* from : {&a, &b}) {
        OutgoingMad mad;
        while (from->manager.next_mad(mad)) {
          moved = true;
          wire::CmMessage message;
          ASSERT_EQ(wire::parse_cm(mad.bytes, message), wire::CmParseError::kNone);
          sent.push_back(message.body);
          const Fate what = fate(message.body);
          if (what == kHold) held.push_back(mad);
          if (what == kDeliver) deliver(mad);
        }
      }
    }
  }
  void deliver(const OutgoingMad& mad) {
    Node& to = mad.path.remote == a.self ? a : b;
    to.manager.on_mad(mad.path.local, mad.path.remote, mad.bytes, now);
  }
  void deliver_held() {
    while (!held.empty()) {
      deliver(held.front());
      held.pop_front();
    }
    run();
  }
  void advance(base::TimeNs span) {
    const base::TimeNs end = now + span;
    for (;;) {
      const base::TimeNs next = std::min(a.manager.next_deadline(), b.manager.next_deadline());
      if (next > end) break;
      now = next;
      a.manager.on_deadline(now);
      b.manager.on_deadline(now);
      run();
    }
    now = end;
  }

  template <typename Message>
  [[nodiscard]] size_t count() const {
    return static_cast<size_t>(std::count_if(sent.begin(), sent.end(), [](const auto& body) {
      return std::holds_alternative<Message>(body);
    }));
  }
  /// Loses the first `times` messages of a kind.
  template <typename Message>
  void lose(int times) {
    fate = [times](const wire::CmBody& body) mutable {
      return std::holds_alternative<Message>(body) && times-- > 0 ? kLose : kDeliver;
    };
  }
  template <typename Message>
  void hold_all() {
    fate = [](const wire::CmBody& body) {
      return std::holds_alternative<Message>(body) ? kHold : kDeliver;
    };
  }

  Event expect_event(Node& node, EventKind kind) {
    Event event;
    EXPECT_TRUE(node.manager.next_event(event)) << "no event at all";
    EXPECT_EQ(static_cast<int>(event.kind), static_cast<int>(kind));
    return event;
  }
  void expect_none(Node& node) {
    Event event;
    EXPECT_FALSE(node.manager.next_event(event)) << static_cast<int>(event.kind);
  }

  ListenerId listen(Node& node, uint32_t backlog = 8) {
    auto listener = node.manager.listen(kService, wire::IpAddress{}, backlog);
    EXPECT_TRUE(listener.ok());
    return *listener;
  }
  ConnectRequest request(const Node& from, const Node& to, uint32_t qpn = 0x11) {
    ConnectRequest request;
    request.path = from.to(to);
    request.service_id = kService;
    request.terms.local_qpn = qpn;
    request.terms.responder_resources = 3;
    request.terms.initiator_depth = 5;
    request.terms.retry_count = 7;
    request.terms.rnr_retry_count = 6;
    request.terms.path_mtu = 3;
    request.terms.ack_timeout = kAckTimeout;
    return request;
  }
  ConnectionId connect(Node& from, Node& to, uint32_t qpn = 0x11) {
    auto id = from.manager.connect(request(from, to, qpn), now);
    EXPECT_TRUE(id.ok());
    return *id;
  }
  AcceptReply reply(uint32_t qpn = 0x22) {
    AcceptReply reply;
    reply.local_qpn = qpn;
    reply.responder_resources = 2;
    reply.initiator_depth = 1;
    reply.rnr_retry_count = 5;
    return reply;
  }
  void expect_state(Node& node, ConnectionId id, State state) {
    const auto is = node.manager.state(id);
    ASSERT_TRUE(is.has_value());
    EXPECT_EQ(static_cast<int>(*is), static_cast<int>(state));
  }

  struct Connected {
    ConnectionId active;
    ConnectionId passive;
  };
  /// From a to b, which listens.
  Connected establish(uint32_t qpn = 0x11, uint32_t peer_qpn = 0x22) {
    Connected ids;
    ids.active = connect(a, b, qpn);
    run();
    const Event event = expect_event(b, EventKind::kRequest);
    b.manager.request_taken(event.listener);
    ids.passive = event.connection;
    EXPECT_TRUE(b.manager.accept(ids.passive, reply(peer_qpn), now).ok());
    run();
    expect_event(a, EventKind::kReply);
    EXPECT_TRUE(a.manager.ready(ids.active, now).ok());
    run();
    expect_event(b, EventKind::kEstablished);
    return ids;
  }

  base::TimeNs now = base::kSecond;
  Node a{1, config()};
  Node b{2, config()};
  std::vector<wire::CmBody> sent;
  std::deque<OutgoingMad> held;
  std::function<Fate(const wire::CmBody&)> fate = [](const wire::CmBody&) { return kDeliver; };
};

}  // namespace flexins::cm
