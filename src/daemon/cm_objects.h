#pragma once

#include <rdma/rdma_user_cm.h>
#include <sys/types.h>

#include <deque>
#include <map>
#include <memory>
#include <optional>

#include "cm/types.h"
#include "daemon/cm_address.h"

/// What programs hold of rdma_cm: channels, ids, multicast memberships; as the kernel's ucma has
/// them.

namespace flexins::daemon {

struct CmChannel;

enum class CmIdState : uint8_t {
  kIdle,
  kBound,         ///< to a port, perhaps to an address
  kAddrResolved,  ///< knows its own address and the peer's
  kRouteResolved,
  kListening,
  kConnecting,  ///< to become a connection, by whichever end
  kConnected,
  kDisconnected,
};

struct CmMulticast {
  uint32_t handle = 0;
  uint64_t uid = 0;  ///< of the program
  CmAddress address;
  uint32_t events_reported = 0;
};

/// A `struct rdma_cm_id`, or an end of a connection that a listener was told of.
struct CmId {
  uint32_t handle = 0;
  CmChannel* channel = nullptr;
  uint64_t uid = 0;  ///< of the program; 0: no events yet
  uint16_t port_space = RDMA_PS_TCP;
  uint8_t qp_type = 0;  ///< enum ibv_qp_type
  CmIdState state = CmIdState::kIdle;
  CmAddress source;
  CmAddress destination;
  std::optional<size_t> gid_index;  ///< of the engine's address, once it is known which
  bool holds_port = false;          ///< in the table of ports
  bool reuse_address = false;
  uint8_t traffic_class = 0;
  std::optional<uint8_t> ack_timeout;
  uint32_t qkey = 0;
  std::optional<cm::ConnectionId> connection;
  std::optional<cm::ListenerId> listener;
  uint32_t events_reported = 0;
  std::map<uint32_t, CmMulticast> multicasts;

  [[nodiscard]] bool is_datagram() const { return qp_type == 4; }
};

/// An event that waits for its program.
struct CmEvent {
  CmId* owner = nullptr;           ///< whose count it goes into
  uint32_t multicast = 0;          ///< and of which membership
  uint32_t request = 0;            ///< CONNECT_REQUEST: handle of the new id
  rdma_ucm_event_resp response{};  ///< as the program is to see it
};

/// One open descriptor of /dev/infiniband/rdma_cm.
struct CmChannel {
  uint64_t secret = 0;
  uid_t uid = 0;
  std::map<uint32_t, std::unique_ptr<CmId>> ids;
  std::deque<CmEvent> events;
};

}  // namespace flexins::daemon
