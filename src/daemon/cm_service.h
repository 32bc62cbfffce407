#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "cm/manager.h"
#include "daemon/cm_address.h"
#include "daemon/cm_objects.h"
#include "daemon/cm_ports.h"
#include "engine/engine.h"

namespace flexins::daemon {

struct CmServiceConfig {
  uint64_t node_guid = 0;
  std::vector<engine::LocalAddress> addresses;
  uint32_t channels_max = 16'384;  ///< in all
  uint32_t ids_max = 65'536;       ///< in all; and half of that of one user
};

/// What is answered to a command.
struct CmAnswer {
  std::vector<std::byte> output;
  uint32_t withdrawn_events = 0;  ///< CmCommandReply::withdrawn_events
};

/// What `flexins status` shows.
struct CmCounts {
  size_t channels = 0;
  size_t ids = 0;
  size_t listeners = 0;
  size_t connections = 0;  ///< of the manager, timewait included
};

/// The commands of <rdma/rdma_user_cm.h>, answered as the kernel would, on top of the communication
/// manager. No I/O but what `routes` does; the time is an argument. Control thread.
class CmService {
 public:
  /// `random` and `routes` outlive this. `notify` is called for every event that a channel gets.
  CmService(const CmServiceConfig& config, base::RandomSource& random, RouteFinder& routes,
            std::function<void(CmChannel&)> notify);
  ~CmService();

  /// Errors: ENOMEM.
  base::Result<CmChannel*> open_channel(uid_t uid);
  /// Ends all that its ids had.
  void close_channel(CmChannel& channel, base::TimeNs now);

  /// One command; `input` is what follows its header. `other`: CmCommandRequest::other.
  base::Result<CmAnswer> command(CmChannel& channel, uint32_t command,
                                 std::span<const std::byte> input, uint64_t other,
                                 base::TimeNs now);

  void on_mad(const wire::IpAddress& source, const wire::IpAddress& destination,
              std::span<const std::byte> mad, base::TimeNs now);
  void on_deadline(base::TimeNs now);
  [[nodiscard]] base::TimeNs next_deadline() const { return manager_.next_deadline(); }
  [[nodiscard]] bool next_mad(cm::OutgoingMad& out) { return manager_.next_mad(out); }

  [[nodiscard]] CmCounts counts() const;
  [[nodiscard]] const cm::Counters& counters() const { return manager_.counters(); }

 private:
  using Answer = base::Result<CmAnswer>;
  using Input = std::span<const std::byte>;

  // cm_service.cc
  CmId& make_id(CmChannel& channel);
  base::Result<CmId*> find_id(CmChannel& channel, uint32_t handle);
  /// Returns how many events that waited are gone.
  uint32_t destroy(CmId& id, base::TimeNs now);
  uint32_t withdraw_events(const CmId& id, base::TimeNs now);
  void tell(CmId& id, uint32_t kind, int status = 0);
  void tell(CmId& id, CmEvent event);
  Answer take_event(CmChannel& channel);
  Answer migrate(CmChannel& channel, Input input, uint64_t other);

  // cm_bind.cc
  Answer create_id(CmChannel& channel, Input input);
  Answer destroy_id(CmChannel& channel, Input input, base::TimeNs now);
  Answer bind_ip(CmChannel& channel, Input input);
  Answer bind_any(CmChannel& channel, Input input);
  Answer resolve_ip(CmChannel& channel, Input input);
  Answer resolve_address(CmChannel& channel, Input input);
  Answer resolve_route(CmChannel& channel, Input input);
  Answer listen(CmChannel& channel, Input input);
  Answer set_option(CmChannel& channel, Input input);
  base::Result<void> bind(CmId& id, const CmAddress& address);
  Answer resolve(CmId& id, const std::optional<CmAddress>& source,
                 const std::optional<CmAddress>& destination);
  [[nodiscard]] CmAddress without_loopback(const CmAddress& address) const;
  base::Result<size_t> choose_gid(const CmId& id);
  [[nodiscard]] std::optional<size_t> gid_of(const wire::IpAddress& address) const;

  // cm_connect.cc
  Answer connect(CmChannel& channel, Input input, base::TimeNs now);
  Answer accept(CmChannel& channel, Input input, base::TimeNs now);
  Answer reject(CmChannel& channel, Input input, base::TimeNs now);
  Answer disconnect(CmChannel& channel, Input input, base::TimeNs now);
  Answer notify(CmChannel& channel, Input input, base::TimeNs now);
  base::Result<void> accept_datagram(CmId& id, const rdma_ucm_conn_param& param, base::TimeNs now);
  [[nodiscard]] uint8_t mtu_of(const CmId& id) const;
  [[nodiscard]] uint8_t ack_timeout_of(const CmId& id) const;

  // cm_query.cc
  Answer query_route(CmChannel& channel, Input input);
  Answer query(CmChannel& channel, Input input);
  Answer query_address(const CmId& id, bool as_gid);
  Answer query_path(const CmId& id);
  Answer init_qp_attributes(CmChannel& channel, Input input);

  // cm_multicast.cc
  Answer join_ip(CmChannel& channel, Input input);
  Answer join_any(CmChannel& channel, Input input);
  Answer join(CmId& id, uint64_t uid, const std::optional<CmAddress>& group);
  Answer leave(CmChannel& channel, Input input);

  // cm_events.cc
  void take_manager_events(base::TimeNs now);
  void on_event(const cm::Event& event, base::TimeNs now);
  void on_request(const cm::Event& event, base::TimeNs now);
  void on_connection_event(CmId& id, const cm::Event& event);
  void on_service_reply(CmId& id, const wire::CmSidrRep& rep);
  void on_end(CmId& id, bool timed_out);

  CmServiceConfig config_;
  base::RandomSource& random_;
  RouteFinder& routes_;
  std::function<void(CmChannel&)> notify_;
  cm::Manager manager_;
  CmPorts ports_;
  std::map<uint64_t, std::unique_ptr<CmChannel>> channels_;  ///< by secret
  std::map<uint32_t, CmId*> ids_;
  std::map<uid_t, uint32_t> ids_of_users_;
  std::map<uint32_t, CmId*> by_connection_;
  std::map<uint32_t, CmId*> by_listener_;
  uint32_t last_handle_ = 0;
};

/// Q_Key of datagrams that were set up by rdma_cm.
inline constexpr uint32_t kCmQkey = 0x0123'4567;

}  // namespace flexins::daemon
