#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "daemon/event_pipes.h"
#include "daemon/shared_memory.h"
#include "daemon/tenants.h"
#include "daemon/windows.h"
#include "daemon/worker_thread.h"
#include "pipe/layout.h"
#include "protocol/messages.h"
#include "protocol/messages_cq.h"
#include "protocol/messages_datagram.h"
#include "protocol/messages_memory.h"
#include "protocol/messages_mw.h"
#include "protocol/messages_qp.h"
#include "protocol/messages_spread.h"
#include "protocol/messages_srq.h"
#include "protocol/messages_xrc.h"

namespace flexins::daemon {

/// What all sessions share; outlives them.
struct SessionEnvironment {
  WorkerThread* worker = nullptr;
  Windows* windows = nullptr;
  /// Told where a program is about to send to; may be empty.
  std::function<void(const base::AddressVector&)> on_destination;
  TenantLimits limits;
  protocol::PortState port{};
  uint64_t node_guid = 0;
  uint64_t incarnation = 0;
};

/// An answer, whole and ready to be sent.
struct Reply {
  std::vector<std::byte> bytes;
  std::vector<base::UniqueFd> fds;
};

/// One application: a context of the engine, its objects and the memory they live in. Knows
/// messages, not sockets. Whatever the application says is checked and answered; destroying the
/// session frees all that it had. Control thread only.
class Session {
 public:
  /// `environment` and `use` outlive the session.
  Session(const SessionEnvironment& environment, TenantUse& use, PeerCredentials peer);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// `message`: one datagram as it came, `fds`: the descriptors that came with it.
  [[nodiscard]] Reply handle(std::span<const std::byte> message, std::vector<base::UniqueFd> fds);

  [[nodiscard]] bool open() const { return open_; }
  [[nodiscard]] base::ContextId context() const { return context_; }
  [[nodiscard]] const PeerCredentials& peer() const { return peer_; }
  /// As the application calls itself; printable characters only.
  [[nodiscard]] const std::string& program() const { return program_; }
  [[nodiscard]] uint64_t events_dropped() const { return events_ ? events_->dropped() : 0; }

 private:
  using Fds = std::vector<base::UniqueFd>;
  using Answer = base::Result<Reply>;

  Answer dispatch(std::span<const std::byte> message, Fds fds);

  // session.cc
  Answer hello(const protocol::HelloRequest& request, Fds fds);
  base::Result<void> open_context();

  // session_memory.cc
  Answer allocate_pd(const protocol::AllocatePdRequest& request);
  Answer free_pd(const protocol::FreePdRequest& request);
  Answer register_mr(std::span<const std::byte> message, Fds fds);
  Answer deregister_mr(const protocol::DeregisterMrRequest& request);
  Answer allocate_mw(const protocol::AllocateMwRequest& request);
  Answer free_mw(const protocol::FreeMwRequest& request);

  Answer reregister_mr(std::span<const std::byte> message, Fds fds);
  base::Result<memory::Region> open_region(std::span<const std::byte> message, const Fds& fds);

  // session_device_memory.cc
  Answer insert_region(memory::Region region);
  Answer allocate_null_mr(const protocol::AllocateNullMrRequest& request);
  Answer allocate_dm(const protocol::AllocateDmRequest& request);
  Answer free_dm(const protocol::FreeDmRequest& request);
  Answer register_dm_mr(const protocol::RegisterDmMrRequest& request);
  Answer import_dm(const protocol::ImportDmRequest& request);
  Answer import_pd(const protocol::ImportPdRequest& request);
  Answer import_mr(const protocol::ImportMrRequest& request);
  void release_device_memory(uint32_t dm);

  // session_cq.cc
  Answer create_channel(const protocol::CreateChannelRequest& request);
  Answer destroy_channel(const protocol::DestroyChannelRequest& request);
  Answer create_cq(const protocol::CreateCqRequest& request);
  Answer destroy_cq(const protocol::DestroyCqRequest& request);
  Answer resize_cq(const protocol::ResizeCqRequest& request);
  Answer modify_cq(const protocol::ModifyCqRequest& request);

  // session_srq.cc
  Answer create_srq(const protocol::CreateSrqRequest& request);
  Answer modify_srq(const protocol::ModifySrqRequest& request);
  Answer resize_srq(const protocol::ResizeSrqRequest& request);
  Answer query_srq(const protocol::QuerySrqRequest& request);
  Answer destroy_srq(const protocol::DestroySrqRequest& request);

  // session_qp.cc
  Answer create_submission_ring(const protocol::CreateSubmissionRingRequest& request);
  Answer create_qp(const protocol::CreateQpRequest& request);
  Answer create_qp_without_ring(const protocol::CreateQpRequest& request);
  Answer modify_qp(const protocol::ModifyQpRequest& request);
  Answer query_qp(const protocol::QueryQpRequest& request);
  Answer set_qp_rate(const protocol::SetQpRateRequest& request);
  Answer destroy_qp(const protocol::DestroyQpRequest& request);
  Answer query_port(const protocol::QueryPortRequest& request);

  // session_xrc.cc
  Answer open_xrcd(std::span<const std::byte> message, Fds fds);
  Answer close_xrcd(const protocol::CloseXrcdRequest& request);
  Answer open_qp(const protocol::OpenQpRequest& request);
  Answer close_qp(const protocol::CloseQpRequest& request);

  // session_datagram.cc
  Answer create_ah(const protocol::CreateAhRequest& request);
  Answer destroy_ah(const protocol::DestroyAhRequest& request);
  Answer attach_multicast(const protocol::AttachMulticastRequest& request);
  Answer detach_multicast(const protocol::DetachMulticastRequest& request);
  Answer create_flow(const protocol::CreateFlowRequest& request);
  Answer destroy_flow(const protocol::DestroyFlowRequest& request);
  Answer create_counters(const protocol::CreateCountersRequest& request);
  Answer read_counters(const protocol::ReadCountersRequest& request);
  Answer destroy_counters(const protocol::DestroyCountersRequest& request);

  // session_spread.cc
  Answer create_spread_table(std::span<const std::byte> message);
  Answer destroy_spread_table(const protocol::DestroySpreadTableRequest& request);
  Answer create_spreading_qp(const protocol::CreateSpreadingQpRequest& request);

  /// Ring memory on the tenant's account. Errors: ENOMEM.
  [[nodiscard]] pipe::WakePage& wake_page() const {
    return *reinterpret_cast<pipe::WakePage*>(wake_page_.data());
  }
  base::Result<SharedMemory> allocate_ring(const char* name, size_t bytes);
  void free_ring(SharedMemory ring);
  /// ENOMEM when `held` has reached `limit`.
  base::Result<void> check_limit(const char* what, uint32_t held, uint32_t limit) const;

  /// Both counts at once: what this session holds, and what its tenant does.
  void count(uint32_t TenantUse::*what) { ++(held_.*what), ++(use_.*what); }
  void discount(uint32_t TenantUse::*what) { --(held_.*what), --(use_.*what); }

  const SessionEnvironment& environment_;
  TenantUse& use_;
  TenantUse held_;
  PeerCredentials peer_;
  std::string program_;
  bool open_ = false;
  base::ContextId context_;
  std::unique_ptr<EventPipes> events_;
  std::shared_ptr<window::ProcessMemory> process_;
  base::UniqueFd wake_event_;
  SharedMemory wake_page_;
  std::vector<SharedMemory> submission_rings_;
  std::map<base::CqId, SharedMemory> completion_rings_;
  std::set<uint32_t> device_memory_;                 ///< numbers of what this session has allocated
  std::map<base::Qpn, SharedMemory> receive_rings_;  ///< of QPs without an SRQ
  /// Files of XRC domains, kept so that their inodes name nothing else meanwhile.
  std::map<base::XrcdId, base::UniqueFd> xrcd_files_;
  struct SharedRing {
    SharedMemory memory;
    uint32_t max_sge = 0;
  };
  std::map<base::Srqn, SharedRing> shared_rings_;  ///< of SRQs
};

}  // namespace flexins::daemon
