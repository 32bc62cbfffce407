#pragma once

#include <array>
#include <map>
#include <memory>
#include <vector>

#include <absl/container/btree_map.h>
#include <absl/container/flat_hash_map.h>

#include "engine/context.h"
#include "engine/counters.h"
#include "engine/departed.h"
#include "engine/engine.h"
#include "engine/flow_table.h"
#include "engine/multicast.h"
#include "engine/peer_table.h"
#include "memory/region.h"
#include "transport/timer_wheel.h"
#include "wire/mad.h"

namespace flexins::engine {

/// Packets that the scheduler hands to a port at once.
inline constexpr size_t kBurstPackets = 64;
/// A QP's turn: packets until the next QP is served. One full GSO train of 4 KiB segments is 15.
inline constexpr size_t kTrainPackets = 64;
/// Submission entries taken from one ring per step, so that one tenant cannot hold the worker.
inline constexpr size_t kSubmissionsPerRing = 64;
/// Bursts received, and trains sent, before a step looks at everything else again.
inline constexpr size_t kReceiveBurstsPerStep = 4;
/// Room for any frame of a raw packet QP.
inline constexpr uint32_t kRawFrameBytes = wire::kMaxMtuBytes;
inline constexpr size_t kTrainsPerStep = 16;

/// What a new QP is put together from.
struct QpParts {
  CompletionQueue* send_cq = nullptr;
  CompletionQueue* receive_cq = nullptr;
  SharedReceives* shared = nullptr;
  XrcDomain* domain = nullptr;  ///< XRC targets, which have none of the others
  pipe::ReceiveConsumer ring;   ///< where it has one of its own
};

/// One worker and its objects. Files: contexts.cc, queue_pairs.cc, shared_receives.cc, xrc.cc,
/// spreading.cc and datagrams.cc hold the control path, worker_step.cc, submissions.cc,
/// reception.cc and scheduler.cc the data path, management.cc queue pair 1.
class EngineImpl final : public Engine {
 public:
  explicit EngineImpl(const EngineConfig& config);
  ~EngineImpl() override;

  base::Result<base::ContextId> open_context(EventSink* events, RingMemory submission) override;
  void close_context(base::ContextId context) override;
  base::Result<uint32_t> add_submission_ring(base::ContextId context, RingMemory ring) override;
  base::Result<base::PdId> allocate_pd(base::ContextId context) override;
  base::Result<void> free_pd(base::ContextId context, base::PdId pd) override;
  base::Result<base::MemoryKey> register_region(base::ContextId context,
                                                memory::Region region) override;
  base::Result<void> deregister_region(base::ContextId context, base::MemoryKey key) override;
  base::Result<void> reregister_region(base::ContextId context, base::MemoryKey key,
                                       RegionChanges changes, memory::Region with) override;
  base::Result<void> share_pd(base::ContextId context, base::ContextId owner,
                              base::PdId pd) override;
  base::Result<uint64_t> region_length(base::ContextId context, base::PdId pd,
                                       base::MemoryKey key) override;
  base::Result<base::MemoryKey> allocate_window(base::ContextId context, base::PdId pd,
                                                base::MwType type) override;
  base::Result<void> free_window(base::ContextId context, base::MemoryKey key) override;
  base::Result<base::ChannelId> create_channel(base::ContextId context) override;
  base::Result<void> destroy_channel(base::ContextId context, base::ChannelId channel) override;
  base::Result<base::CqId> create_cq(base::ContextId context, const CreateCq& request,
                                     RingMemory ring) override;
  base::Result<void> resize_cq(base::ContextId context, base::CqId cq, uint32_t depth,
                               uint32_t wanted, RingMemory ring) override;
  base::Result<void> moderate_cq(base::ContextId context, base::CqId cq, uint32_t count,
                                 base::TimeNs period_ns) override;
  base::Result<EventsRead> destroy_cq(base::ContextId context, base::CqId cq) override;
  base::Result<base::Srqn> create_srq(base::ContextId context, const CreateSrq& request,
                                      RingMemory ring) override;
  base::Result<void> arm_srq(base::ContextId context, base::Srqn srq, uint32_t limit) override;
  base::Result<void> resize_srq(base::ContextId context, base::Srqn srq, uint32_t max_wr,
                                RingMemory ring) override;
  base::Result<uint32_t> query_srq_limit(base::ContextId context, base::Srqn srq) override;
  base::Result<EventsRead> destroy_srq(base::ContextId context, base::Srqn srq) override;
  base::Result<base::Qpn> create_qp(base::ContextId context, const CreateQp& request,
                                    RingMemory receive_ring) override;
  base::Result<ModifiedQp> modify_qp(base::ContextId context, base::Qpn qpn,
                                     const base::QpAttributes& attributes, uint32_t mask,
                                     base::TimeNs now) override;
  base::Result<base::QpAttributes> query_qp(base::ContextId context, base::Qpn qpn) override;
  base::Result<void> set_qp_rate(base::ContextId context, base::Qpn qpn, uint64_t bytes_per_second,
                                 uint64_t burst_bytes, base::TimeNs now) override;
  base::Result<base::XrcdId> open_xrcd(base::ContextId context, const OpenXrcd& request) override;
  base::Result<void> close_xrcd(base::ContextId context, base::XrcdId xrcd) override;
  base::Result<void> open_qp(base::ContextId context, base::XrcdId xrcd, base::Qpn qpn,
                             uint64_t cookie) override;
  base::Result<EventsRead> close_qp(base::ContextId context, base::Qpn qpn,
                                    uint64_t cookie) override;
  base::Result<EventsRead> destroy_qp(base::ContextId context, base::Qpn qpn) override;
  base::Result<void> send_mad(const wire::Path& path, std::span<const std::byte> mad,
                              base::TimeNs now) override;
  void announce(base::AsyncEvent event) override;
  base::Result<base::AhId> create_ah(base::ContextId context, base::PdId pd,
                                     const base::AddressVector& to) override;
  base::Result<void> destroy_ah(base::ContextId context, base::AhId ah) override;
  base::Result<void> attach_multicast(base::ContextId context, base::Qpn qpn,
                                      const base::Gid& group) override;
  base::Result<void> detach_multicast(base::ContextId context, base::Qpn qpn,
                                      const base::Gid& group) override;
  base::Result<base::FlowId> create_flow(base::ContextId context, base::Qpn qpn,
                                         const base::FlowRule& rule,
                                         base::CountersId counters) override;
  base::Result<base::CountersId> create_counters(base::ContextId context) override;
  base::Result<base::FlowCounts> read_counters(base::ContextId context,
                                               base::CountersId counters) override;
  base::Result<void> destroy_counters(base::ContextId context, base::CountersId counters) override;
  base::Result<void> destroy_flow(base::ContextId context, base::Qpn qpn,
                                  base::FlowId flow) override;
  base::Result<base::SpreadTableId> create_spread_table(base::ContextId context,
                                                        std::span<const base::Qpn> queues) override;
  base::Result<void> destroy_spread_table(base::ContextId context,
                                          base::SpreadTableId table) override;
  base::Result<base::Qpn> create_spreading_qp(base::ContextId context,
                                              const CreateSpreadingQp& request) override;
  [[nodiscard]] EngineInfo info() const override;

  bool step(base::TimeNs now) override;
  [[nodiscard]] base::TimeNs next_event() const override;

 private:
  // queue_pairs.cc
  Context* find_context(base::ContextId id);
  base::Result<QueuePair*> find_qp(base::ContextId context, base::Qpn qpn);
  base::Result<FlowCounters*> find_counters(base::ContextId context, base::CountersId counters);
  base::Qpn unused_qpn();
  base::Result<QueuePair*> add_qp(Context& context, const CreateQp& request, const QpParts& parts);
  base::Result<wire::Path> make_path(const base::AddressVector& to, uint32_t mtu_bytes);
  base::Result<void> connect_path(QueuePair& qp, const base::QpAttributes& attributes);
  void forget_path(QueuePair& qp);
  void remove_qp(Context& context, base::Qpn qpn);

  // multicast.cc
  void leave_group(const wire::IpAddress& group, QueuePair& qp);
  void loop_multicast(std::span<wire::TxPacket> sent, base::TimeNs now);
  void deliver_multicast(const wire::Headers& headers, const wire::RxPacket& packet,
                         std::span<const iovec> payload, uint32_t length, base::TimeNs now);
  // raw_frames.cc
  base::Result<void> start_raw();
  void stop_raw(QueuePair& qp);
  bool receive_raw(base::TimeNs now);
  void deliver_raw(const wire::RxPacket& frame, const QueuePair* sender, base::TimeNs now);
  void loop_raw(std::span<wire::TxPacket> sent, base::TimeNs now);
  // shared_receives.cc
  base::Srqn unused_srqn();
  base::Result<SharedReceives*> find_srq(base::ContextId context, base::Srqn srq);
  void remove_srq(Context& context, base::Srqn srq);

  // xrc.cc
  void remove_xrcd(Context& context, base::XrcdId xrcd);
  base::Result<base::Qpn> create_target(Context& context, const CreateQp& request);
  void drop_opener(QueuePair& qp, size_t index);
  void hand_over(QueuePair& qp, Context& to);
  void close_targets(const Context& context);

  // submissions.cc
  bool poll_submissions(base::TimeNs now);
  void submit(Context& context, uint32_t ring, const pipe::SubmissionEntry& entry,
              base::TimeNs now);
  // reception.cc
  bool receive(port::Port& port, base::TimeNs now);
  void deliver(const wire::RxPacket& packet, base::TimeNs now);
  void deliver_datagram(QueuePair& qp, const wire::Headers& headers, const wire::RxPacket& packet,
                        std::span<const iovec> payload, uint32_t length, base::TimeNs now);
  [[nodiscard]] bool answer_for_departed(const wire::Headers& headers,
                                         const wire::IpAddress& source, base::TimeNs now);
  // management.cc
  void deliver_management(const wire::RxPacket& packet, const wire::Headers& headers,
                          size_t header_length);
  // scheduler.cc
  bool transmit(base::TimeNs now);
  size_t fill_train(QueuePair& qp, base::TimeNs now);
  bool flush_train(base::TimeNs now);
  /// What waits of this QP's packets is lost.
  void withdraw_train(const QueuePair& qp);
  /// What waits to be sent refers to no application's memory any more.
  void detach_train();
  void end_train();
  void make_ready(QueuePair& qp);
  [[nodiscard]] bool held_to_its_rate(QueuePair& qp, base::TimeNs now);
  void wake_peer_waiters(Peer& peer);
  // worker_step.cc
  bool run_timers(base::TimeNs now);
  void after_activity(QueuePair& qp);
  void fail_overrun_cqs(base::TimeNs now);

  EngineConfig config_;
  memory::RegionTable regions_;
  /// In the order in which they were opened: the order of service may depend on nothing else.
  absl::btree_map<uint32_t, std::unique_ptr<Context>> contexts_;
  absl::flat_hash_map<uint32_t, QueuePair*> qps_;         ///< by QPN, all contexts
  absl::flat_hash_map<uint32_t, SharedReceives*> srqs_;   ///< by number, all contexts
  std::map<XrcdFile, std::weak_ptr<XrcDomain>> domains_;  ///< those that are shared
  PeerTable peers_;
  MulticastTable multicast_;
  FlowTable flows_;
  uint32_t raw_qps_ = 0;
  Departed departed_;
  /// Asking for the next deadline tidies up in there.
  mutable transport::TimerWheel timers_;
  mutable transport::TimerWheel pacing_timers_;  ///< QPs that wait for their rate
  mutable transport::TimerWheel cq_timers_;      ///< events that CQs hold back
  EngineCounters counters_;
  uint64_t overruns_handled_ = 0;
  base::TimeNs last_step_ = 0;
  uint32_t last_id_ = 0;  ///< of contexts, PDs, CQs and channels: never reused

  base::IntrusiveQueue<Context, &Context::next_ready, &Context::is_ready> ready_contexts_;
  std::array<wire::TxPacket, kBurstPackets> train_;
  std::array<wire::RxPacket, kBurstPackets> received_;
  bool from_network_ = false;  ///< where received_ came from
  wire::TxPacket last_word_;   ///< an answer for a QP that is gone
  wire::TxPacket management_packet_;
  wire::Path management_path_;
  std::array<std::byte, wire::kMadBytes> management_bytes_;
  base::Psn management_psn_;
  std::unique_ptr<std::byte[]> staging_;
  // The part of train_ that no port has taken yet, and whose it is: null when all has left.
  QueuePair* train_qp_ = nullptr;
  size_t train_begin_ = 0;
  size_t train_end_ = 0;
};

}  // namespace flexins::engine
