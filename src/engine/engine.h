#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/flow.h"
#include "base/ids.h"
#include "base/random.h"
#include "base/result.h"
#include "base/time.h"
#include "base/verbs_types.h"
#include "memory/region.h"
#include "pipe/layout.h"
#include "port/port.h"
#include "transport/qp.h"
#include "wire/packet.h"

/// The SmartNIC: contexts with their objects, and the worker's step that moves packets. No socket,
/// clock or thread in here. All calls are made by one thread; control calls come between steps.

namespace flexins::engine {

/// Where an engine's events leave for one application.
class EventSink {
 public:
  virtual ~EventSink() = default;
  /// A completion event for the CQ with `cq_cookie` on completion channel `channel`. False: it was
  /// dropped, since the application does not read.
  virtual bool completion_event(base::ChannelId channel, uint64_t cq_cookie) noexcept = 0;
  /// `element_cookie`: the QP's or CQ's; the port's number for port events, 0 for device events.
  virtual bool async_event(uint64_t element_cookie, base::AsyncEvent event) noexcept = 0;
  /// The object is being destroyed: these take back the events that the application has not read,
  /// and return how many those were. What it has read it has to acknowledge.
  virtual uint32_t withdraw_completion_events(base::ChannelId channel,
                                              uint64_t cq_cookie) noexcept = 0;
  virtual uint32_t withdraw_async_events(uint64_t element_cookie) noexcept = 0;
};

/// Where management datagrams go that have come for queue pair 1. Called by the worker.
class ManagementSink {
 public:
  virtual ~ManagementSink() = default;
  /// `mad`: wire::kMadBytes. False: no room, it is lost.
  virtual bool on_mad(const wire::IpAddress& source, const wire::IpAddress& destination,
                      std::span<const std::byte> mad) noexcept = 0;
};

/// Zeroed memory shared with the application; outlives the object that it is handed to.
struct RingMemory {
  std::byte* base = nullptr;
  size_t bytes = 0;
};

/// One address of this engine: a GID, and the packets that may leave from it.
struct LocalAddress {
  wire::IpAddress address;
  std::string interface;
  uint32_t mtu_bytes = 1024;  ///< largest RoCE path MTU of that interface, 256 … 4096
};

struct EngineConfig {
  std::vector<LocalAddress> addresses;
  /// Packets to addresses of our own; must be there.
  port::Port* local = nullptr;
  /// Frames of raw packet QPs; null: there are no such QPs (EPERM).
  port::Port* raw = nullptr;
  /// Largest frame of raw packet QPs, the Ethernet header counted.
  uint32_t frame_bytes_max = 1514;
  /// The interface of `raw` hands back what is sent on it.
  bool raw_loops_back = false;
  /// All other packets; null: there are none to send to (RTR to a foreign GID is ENETUNREACH).
  port::Port* network = nullptr;
  base::RandomSource* random = nullptr;
  /// Null: nobody listens to queue pair 1. Outlives the engine.
  ManagementSink* management = nullptr;
  /// In-flight bytes to one peer; see transport::PeerWindow. The network port's own receive buffer
  /// bounds it further.
  uint64_t peer_window_bytes = 512 * 1024;
  uint32_t read_chunk_bytes = 64 * 1024;
  uint32_t qps_max = base::Limits::kMaxQp;
};

/// What of a region changes: its PD; its window with range and access.
struct RegionChanges {
  bool pd = false;
  bool window = false;
};

struct CreateCq {
  uint64_t cookie = 0;
  uint32_t depth = 1;           ///< a power of two
  base::ChannelId channel;      ///< value 0: none
  bool ignore_overrun = false;  ///< lose completions rather than fail
};

/// The file that an XRC domain is shared through.
struct XrcdFile {
  uint64_t device = 0;
  uint64_t inode = 0;
  friend auto operator<=>(const XrcdFile&, const XrcdFile&) = default;
};

struct OpenXrcd {
  std::optional<XrcdFile> file;  ///< none: a domain that nobody else can open
  bool create = false;           ///< O_CREAT
  bool exclusive = false;        ///< O_EXCL
};

struct CreateSrq {
  base::PdId pd;
  uint64_t cookie = 0;
  uint32_t max_wr = 1;
  uint32_t max_sge = 1;
  base::XrcdId xrcd;  ///< value 0: none. Else an XRC SRQ, with a completion queue of its own
  base::CqId cq;
};

struct CreateQp {
  base::PdId pd;
  base::CqId send_cq;
  base::CqId receive_cq;
  uint32_t submission_ring = 0;
  uint64_t cookie = 0;
  base::QpType type = base::QpType::kReliable;
  uint32_t max_send_wr = 1;
  uint32_t max_receive_wr = 1;
  uint32_t max_send_sge = 1;
  uint32_t max_receive_sge = 1;
  uint32_t max_inline_bytes = 0;
  bool signal_all = false;
  base::Srqn srq;     ///< value 0: none, the QP has a receive ring of its own
  base::XrcdId xrcd;  ///< XRC targets, which have neither PD nor CQs nor rings
};

/// A raw packet QP that has no queues: frames for it are spread over those of a table.
struct CreateSpreadingQp {
  base::PdId pd;
  base::SpreadTableId table;
  uint64_t cookie = 0;
  base::ReceiveHash hash;
};

/// Events of an object that its application has read before the object was destroyed.
struct EventsRead {
  uint32_t completion = 0;
  uint32_t async = 0;
};

/// Generation of a QP's queues from its creation to its first reset.
inline constexpr uint32_t kFirstGeneration = 1;

struct ModifiedQp {
  base::QpState state;
  uint32_t generation;
};

/// Rows for `flexins status`.
struct QpInfo {
  base::Qpn qpn;
  base::ContextId context;
  base::QpType type = base::QpType::kReliable;
  base::QpAttributes attributes;
  transport::QpCounters counters;
  uint32_t outstanding_sends = 0;
};
struct RegionInfo {
  base::MemoryKey key;
  base::ContextId context;
  uint64_t address = 0;
  uint64_t length = 0;
  uint32_t access = 0;
  memory::WindowKind window = memory::WindowKind::kDescriptor;
};
struct ContextInfo {
  base::ContextId context;
  uint32_t pds = 0, cqs = 0, qps = 0, regions = 0, srqs = 0, windows = 0, xrcds = 0;
};
struct EngineInfo {
  std::vector<ContextInfo> contexts;
  std::vector<QpInfo> qps;
  std::vector<RegionInfo> regions;
  std::vector<port::Counter> counters;  ///< engine-wide, drops by reason
};

class Engine {
 public:
  virtual ~Engine() = default;
  static std::unique_ptr<Engine> create(const EngineConfig& config);

  // Control. Every id is checked to belong to `context`; ENOENT if not. -------------------------

  /// `events` outlives the context. `submission` becomes ring 0: pipe::submission_ring_bytes().
  virtual base::Result<base::ContextId> open_context(EventSink* events, RingMemory submission) = 0;
  /// Destroys all that the context owns; its memory is not touched afterwards.
  virtual void close_context(base::ContextId context) = 0;
  /// ENOSPC at pipe::kMaxSubmissionRings.
  virtual base::Result<uint32_t> add_submission_ring(base::ContextId context, RingMemory ring) = 0;

  virtual base::Result<base::PdId> allocate_pd(base::ContextId context) = 0;
  virtual base::Result<void> free_pd(base::ContextId context, base::PdId pd) = 0;
  /// `region.pd` must be set, its key is ignored.
  virtual base::Result<base::MemoryKey> register_region(base::ContextId context,
                                                        memory::Region region) = 0;
  /// EBUSY while memory windows are bound to it.
  virtual base::Result<void> deregister_region(base::ContextId context, base::MemoryKey key) = 0;
  /// EBUSY while memory windows are bound to it. Gives the region with `key` what `changes` names
  /// of `with`; the key stays. When it fails the region is as before. When the call is back, what
  /// it had before is not touched any more.
  virtual base::Result<void> reregister_region(base::ContextId context, base::MemoryKey key,
                                               RegionChanges changes, memory::Region with) = 0;
  /// Lets `context` use a PD of `owner`. free_pd takes that back; the PD stays the owner's.
  virtual base::Result<void> share_pd(base::ContextId context, base::ContextId owner,
                                      base::PdId pd) = 0;
  /// Length of a region, of whatever context, in a PD that `context` may use.
  virtual base::Result<uint64_t> region_length(base::ContextId context, base::PdId pd,
                                               base::MemoryKey key) = 0;
  /// A memory window that is not bound: binding and invalidating are work requests.
  virtual base::Result<base::MemoryKey> allocate_window(base::ContextId context, base::PdId pd,
                                                        base::MwType type) = 0;
  /// `key`: any that the window had. What it grants ends.
  virtual base::Result<void> free_window(base::ContextId context, base::MemoryKey key) = 0;
  virtual base::Result<base::ChannelId> create_channel(base::ContextId context) = 0;
  /// EBUSY while CQs use it.
  virtual base::Result<void> destroy_channel(base::ContextId context, base::ChannelId channel) = 0;
  /// `ring`: pipe::completion_ring_bytes(depth).
  virtual base::Result<base::CqId> create_cq(base::ContextId context, const CreateCq& request,
                                             RingMemory ring) = 0;
  /// The CQ goes on in `ring` of `depth` entries; when the call is back the old one is not touched
  /// any more. EINVAL when more than `wanted` completions wait, EIO after an overrun.
  virtual base::Result<void> resize_cq(base::ContextId context, base::CqId cq, uint32_t depth,
                                       uint32_t wanted, RingMemory ring) = 0;
  /// See CompletionQueue::moderate.
  virtual base::Result<void> moderate_cq(base::ContextId context, base::CqId cq, uint32_t count,
                                         base::TimeNs period_ns) = 0;
  virtual base::Result<EventsRead> destroy_cq(base::ContextId context, base::CqId cq) = 0;
  /// `ring`: pipe::receive_ring_bytes(round_up_power_of_two(max_wr), max_sge).
  virtual base::Result<base::Srqn> create_srq(base::ContextId context, const CreateSrq& request,
                                              RingMemory ring) = 0;
  /// EAGAIN: nobody has a domain open through this file, and it is not to be created; EINVAL: there
  /// is one, and it was to be new; ENOMEM at Limits::kMaxXrcd.
  virtual base::Result<base::XrcdId> open_xrcd(base::ContextId context,
                                               const OpenXrcd& request) = 0;
  /// EBUSY while SRQs or targets use it through this handle.
  virtual base::Result<void> close_xrcd(base::ContextId context, base::XrcdId xrcd) = 0;
  /// One kSrqLimitReached when fewer than `limit` entries are left; 0 disarms.
  virtual base::Result<void> arm_srq(base::ContextId context, base::Srqn srq, uint32_t limit) = 0;
  /// The SRQ goes on in `ring`: pipe::receive_ring_bytes(round_up_power_of_two(max_wr), sge), with
  /// what is posted and not taken; when the call is back the old one is not touched any more. The
  /// caller sees to it that nobody posts meanwhile. EINVAL when more is posted than `max_wr`, or
  /// the armed limit is larger.
  virtual base::Result<void> resize_srq(base::ContextId context, base::Srqn srq, uint32_t max_wr,
                                        RingMemory ring) = 0;
  /// The limit that is armed; 0: none.
  virtual base::Result<uint32_t> query_srq_limit(base::ContextId context, base::Srqn srq) = 0;
  /// EBUSY while QPs use it.
  virtual base::Result<EventsRead> destroy_srq(base::ContextId context, base::Srqn srq) = 0;
  /// `receive_ring`: pipe::receive_ring_bytes(round_up_power_of_two(max_receive_wr), sge); none
  /// where the request names an SRQ, or for XRC.
  virtual base::Result<base::Qpn> create_qp(base::ContextId context, const CreateQp& request,
                                            RingMemory receive_ring) = 0;
  virtual base::Result<ModifiedQp> modify_qp(base::ContextId context, base::Qpn qpn,
                                             const base::QpAttributes& attributes, uint32_t mask,
                                             base::TimeNs now) = 0;
  virtual base::Result<base::QpAttributes> query_qp(base::ContextId context, base::Qpn qpn) = 0;
  /// From now on the QP sends at most `bytes_per_second`; 0: no limit. `burst_bytes` may leave at
  /// once. EINVAL unless it is in RTS. A move to kReset lifts the limit.
  virtual base::Result<void> set_qp_rate(base::ContextId context, base::Qpn qpn,
                                         uint64_t bytes_per_second, uint64_t burst_bytes,
                                         base::TimeNs now) = 0;
  /// A further user of an XRC target, which may modify it and hears of its events under `cookie`.
  /// EINVAL: the domain has no such target.
  virtual base::Result<void> open_qp(base::ContextId context, base::XrcdId xrcd, base::Qpn qpn,
                                     uint64_t cookie) = 0;
  /// Takes back open_qp or create_qp of an XRC target; with the last of them it is destroyed.
  virtual base::Result<EventsRead> close_qp(base::ContextId context, base::Qpn qpn,
                                            uint64_t cookie) = 0;
  /// EBUSY while it is in a multicast group or in a table. Its flows go with it. EINVAL: an XRC
  /// target.
  virtual base::Result<EventsRead> destroy_qp(base::ContextId context, base::Qpn qpn) = 0;

  /// Sends `mad` (wire::kMadBytes) from queue pair 1 to the peer's. `path.source` is an address of
  /// this engine. ENETUNREACH: no way there; EAGAIN: the port is full, the datagram is lost.
  virtual base::Result<void> send_mad(const wire::Path& path, std::span<const std::byte> mad,
                                      base::TimeNs now) = 0;
  /// Tells every context of something that concerns the whole port.
  virtual void announce(base::AsyncEvent event) = 0;
  /// Where datagrams of QPs in `pd` may be sent. EINVAL for an address that this engine cannot send
  /// to from that GID, ENETUNREACH where there is no network, ENOMEM at Limits::kMaxAh.
  virtual base::Result<base::AhId> create_ah(base::ContextId context, base::PdId pd,
                                             const base::AddressVector& to) = 0;
  /// Packets that were posted with it still leave.
  virtual base::Result<void> destroy_ah(base::ContextId context, base::AhId ah) = 0;
  /// Has a datagram QP receive what is sent to a group, from here and from the network. Joining
  /// again changes nothing. EINVAL: no datagram QP or no group; errors of port::Port::join.
  virtual base::Result<void> attach_multicast(base::ContextId context, base::Qpn qpn,
                                              const base::Gid& group) = 0;
  /// EINVAL: it is not in this group.
  virtual base::Result<void> detach_multicast(base::ContextId context, base::Qpn qpn,
                                              const base::Gid& group) = 0;

  /// Has a raw packet QP receive the frames that `rule` wants, and counts them in `counters` (value
  /// 0: nowhere), whether it has a receive for them or not. EINVAL: no such QP, ENOMEM.
  virtual base::Result<base::FlowId> create_flow(base::ContextId context, base::Qpn qpn,
                                                 const base::FlowRule& rule,
                                                 base::CountersId counters) = 0;
  virtual base::Result<void> destroy_flow(base::ContextId context, base::Qpn qpn,
                                          base::FlowId flow) = 0;

  /// Several flows may be counted in one. ENOMEM at Limits::kMaxCounters.
  virtual base::Result<base::CountersId> create_counters(base::ContextId context) = 0;
  /// Since they were created.
  virtual base::Result<base::FlowCounts> read_counters(base::ContextId context,
                                                       base::CountersId counters) = 0;
  /// EBUSY while flows are counted there.
  virtual base::Result<void> destroy_counters(base::ContextId context,
                                              base::CountersId counters) = 0;

  /// A table of receive work queues (QPs of type kReceiveQueue): their number is a power of two, up
  /// to Limits::kMaxSpreadTableSize, and the same may be in it several times. EINVAL, ENOMEM. A
  /// queue that is in a table cannot be destroyed.
  virtual base::Result<base::SpreadTableId> create_spread_table(
      base::ContextId context, std::span<const base::Qpn> queues) = 0;
  /// EBUSY while QPs use it.
  virtual base::Result<void> destroy_spread_table(base::ContextId context,
                                                  base::SpreadTableId table) = 0;
  /// It receives at once, and has no states. ENOENT, EPERM (no raw frames), ENOMEM.
  virtual base::Result<base::Qpn> create_spreading_qp(base::ContextId context,
                                                      const CreateSpreadingQp& request) = 0;

  [[nodiscard]] virtual EngineInfo info() const = 0;

  // Data ---------------------------------------------------------------------------------------

  /// One round of the worker: submissions, receive, timers, transmit. Returns whether anything was
  /// done; a false return means that nothing happens before next_event() unless a descriptor of a
  /// port or the wake descriptor says so.
  virtual bool step(base::TimeNs now) = 0;
  [[nodiscard]] virtual base::TimeNs next_event() const = 0;
};

}  // namespace flexins::engine
