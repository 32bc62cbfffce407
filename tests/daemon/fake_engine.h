#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <map>
#include <set>

#include "engine/engine.h"

namespace flexins::daemon {

/// An engine that only remembers. Ids are checked to belong to their context, as in the real one.
class FakeEngine final : public engine::Engine {
 public:
  template <typename Value = void>
  using Result = base::Result<Value>;

  std::vector<base::AsyncEvent> announced;
  engine::OpenXrcd opened_xrcd;  ///< the last
  struct Context {
    engine::EventSink* events = nullptr;
    uint32_t rings = 1;
    std::set<uint32_t> pds, regions, windows, channels, cqs, srqs, qps, ahs, flows, tables,
        counters, xrcds;
  };

  Result<base::ContextId> open_context(engine::EventSink* events,
                                       engine::RingMemory ring) override {
    EXPECT_GE(ring.bytes, pipe::submission_ring_bytes());
    contexts[++last_id].events = events;
    return base::ContextId{last_id};
  }
  void close_context(base::ContextId context) override { contexts.erase(context.value); }
  Result<uint32_t> add_submission_ring(base::ContextId context, engine::RingMemory) override {
    return contexts.at(context.value).rings++;
  }
  Result<base::PdId> allocate_pd(base::ContextId context) override {
    return base::PdId{add(contexts.at(context.value).pds)};
  }
  Result<> free_pd(base::ContextId context, base::PdId pd) override {
    return remove(contexts.at(context.value).pds, pd.value);
  }
  Result<base::MemoryKey> register_region(base::ContextId context, memory::Region added) override {
    if (!contexts.at(context.value).pds.contains(added.pd.value)) return missing();
    region = std::move(added);
    return base::MemoryKey{add(contexts.at(context.value).regions)};
  }
  Result<> deregister_region(base::ContextId context, base::MemoryKey key) override {
    return remove(contexts.at(context.value).regions, key.value);
  }
  Result<> reregister_region(base::ContextId context, base::MemoryKey key,
                             engine::RegionChanges changes, memory::Region with) override {
    if (!contexts.at(context.value).regions.contains(key.value)) return missing();
    EXPECT_EQ(changes.window, with.window != nullptr);
    return {};
  }
  Result<> share_pd(base::ContextId context, base::ContextId owner, base::PdId pd) override {
    if (!contexts.contains(owner.value)) return missing();
    if (!contexts.at(owner.value).pds.contains(pd.value)) return missing();
    contexts.at(context.value).pds.insert(pd.value);
    return {};
  }
  Result<uint64_t> region_length(base::ContextId context, base::PdId pd, base::MemoryKey) override {
    if (!contexts.at(context.value).pds.contains(pd.value)) return missing();
    return uint64_t{4096};
  }
  Result<> set_qp_rate(base::ContextId context, base::Qpn qpn, uint64_t, uint64_t,
                       base::TimeNs) override {
    if (!contexts.at(context.value).qps.contains(qpn.value)) return missing();
    return {};
  }
  void announce(base::AsyncEvent event) override { announced.push_back(event); }
  Result<base::MemoryKey> allocate_window(base::ContextId context, base::PdId pd,
                                          base::MwType) override {
    if (!contexts.at(context.value).pds.contains(pd.value)) return missing();
    return base::MemoryKey{add(contexts.at(context.value).windows)};
  }
  Result<> free_window(base::ContextId context, base::MemoryKey key) override {
    return remove(contexts.at(context.value).windows, key.value);
  }
  Result<base::ChannelId> create_channel(base::ContextId context) override {
    return base::ChannelId{add(contexts.at(context.value).channels)};
  }
  Result<> destroy_channel(base::ContextId context, base::ChannelId channel) override {
    return remove(contexts.at(context.value).channels, channel.value);
  }
  Result<base::CqId> create_cq(base::ContextId context, const engine::CreateCq& request,
                               engine::RingMemory ring) override {
    EXPECT_GE(ring.bytes, pipe::completion_ring_bytes(request.depth));
    return base::CqId{add(contexts.at(context.value).cqs)};
  }
  Result<> resize_cq(base::ContextId context, base::CqId cq, uint32_t depth, uint32_t,
                     engine::RingMemory ring) override {
    EXPECT_GE(ring.bytes, pipe::completion_ring_bytes(depth));
    if (!contexts.at(context.value).cqs.contains(cq.value)) return missing();
    return {};
  }
  Result<> moderate_cq(base::ContextId context, base::CqId cq, uint32_t, base::TimeNs) override {
    if (!contexts.at(context.value).cqs.contains(cq.value)) return missing();
    return {};
  }
  Result<engine::EventsRead> destroy_cq(base::ContextId context, base::CqId cq) override {
    return remove_with_events(contexts.at(context.value).cqs, cq.value);
  }
  Result<base::Srqn> create_srq(base::ContextId context, const engine::CreateSrq& request,
                                engine::RingMemory ring) override {
    if (!contexts.at(context.value).pds.contains(request.pd.value)) return missing();
    EXPECT_GE(ring.bytes, pipe::receive_ring_bytes(pipe::round_up_power_of_two(request.max_wr),
                                                   request.max_sge));
    return base::Srqn{add(contexts.at(context.value).srqs)};
  }
  Result<> arm_srq(base::ContextId context, base::Srqn srq, uint32_t limit) override {
    if (!contexts.at(context.value).srqs.contains(srq.value)) return missing();
    srq_limit = limit;
    return {};
  }
  Result<uint32_t> query_srq_limit(base::ContextId context, base::Srqn srq) override {
    if (!contexts.at(context.value).srqs.contains(srq.value)) return missing();
    return srq_limit;
  }
  Result<engine::EventsRead> destroy_srq(base::ContextId context, base::Srqn srq) override {
    return remove_with_events(contexts.at(context.value).srqs, srq.value);
  }
  Result<base::Qpn> create_qp(base::ContextId context, const engine::CreateQp& request,
                              engine::RingMemory ring) override {
    if (request.srq.value != 0) {
      if (!contexts.at(context.value).srqs.contains(request.srq.value)) return missing();
      EXPECT_EQ(ring.base, nullptr);
      return base::Qpn{add(contexts.at(context.value).qps)};
    }
    EXPECT_GE(ring.bytes,
              pipe::receive_ring_bytes(pipe::round_up_power_of_two(request.max_receive_wr),
                                       request.max_receive_sge));
    return base::Qpn{add(contexts.at(context.value).qps)};
  }
  Result<engine::ModifiedQp> modify_qp(base::ContextId context, base::Qpn qpn,
                                       const base::QpAttributes& attributes, uint32_t,
                                       base::TimeNs) override {
    if (!contexts.at(context.value).qps.contains(qpn.value)) return missing();
    return engine::ModifiedQp{attributes.state, engine::kFirstGeneration};
  }
  Result<base::QpAttributes> query_qp(base::ContextId context, base::Qpn qpn) override {
    if (!contexts.at(context.value).qps.contains(qpn.value)) return missing();
    return base::QpAttributes{};
  }
  Result<engine::EventsRead> destroy_qp(base::ContextId context, base::Qpn qpn) override {
    return remove_with_events(contexts.at(context.value).qps, qpn.value);
  }
  Result<base::XrcdId> open_xrcd(base::ContextId context,
                                 const engine::OpenXrcd& request) override {
    opened_xrcd = request;
    return base::XrcdId{add(contexts.at(context.value).xrcds)};
  }
  Result<> close_xrcd(base::ContextId context, base::XrcdId xrcd) override {
    return remove(contexts.at(context.value).xrcds, xrcd.value);
  }
  Result<> open_qp(base::ContextId context, base::XrcdId xrcd, base::Qpn qpn, uint64_t) override {
    if (!contexts.at(context.value).xrcds.contains(xrcd.value)) return missing();
    contexts.at(context.value).qps.insert(qpn.value);
    return {};
  }
  Result<engine::EventsRead> close_qp(base::ContextId context, base::Qpn qpn, uint64_t) override {
    return remove_with_events(contexts.at(context.value).qps, qpn.value);
  }
  Result<> send_mad(const wire::Path&, std::span<const std::byte>, base::TimeNs) override {
    return {};
  }
  Result<base::AhId> create_ah(base::ContextId context, base::PdId pd,
                               const base::AddressVector&) override {
    if (!contexts.at(context.value).pds.contains(pd.value)) return missing();
    return base::AhId{add(contexts.at(context.value).ahs)};
  }
  Result<> destroy_ah(base::ContextId context, base::AhId ah) override {
    return remove(contexts.at(context.value).ahs, ah.value);
  }
  Result<> attach_multicast(base::ContextId context, base::Qpn qpn, const base::Gid&) override {
    if (!contexts.at(context.value).qps.contains(qpn.value)) return missing();
    return {};
  }
  Result<> detach_multicast(base::ContextId context, base::Qpn qpn, const base::Gid&) override {
    if (!contexts.at(context.value).qps.contains(qpn.value)) return missing();
    return {};
  }
  Result<base::FlowId> create_flow(base::ContextId context, base::Qpn qpn, const base::FlowRule&,
                                   base::CountersId) override {
    if (!contexts.at(context.value).qps.contains(qpn.value)) return missing();
    return base::FlowId{add(contexts.at(context.value).flows)};
  }
  Result<> destroy_flow(base::ContextId context, base::Qpn, base::FlowId flow) override {
    return remove(contexts.at(context.value).flows, flow.value);
  }
  Result<base::CountersId> create_counters(base::ContextId context) override {
    return base::CountersId{add(contexts.at(context.value).counters)};
  }
  Result<base::FlowCounts> read_counters(base::ContextId context,
                                         base::CountersId counters) override {
    if (!contexts.at(context.value).counters.contains(counters.value)) return missing();
    return base::FlowCounts{3, 200};
  }
  Result<> destroy_counters(base::ContextId context, base::CountersId counters) override {
    return remove(contexts.at(context.value).counters, counters.value);
  }
  Result<> resize_srq(base::ContextId context, base::Srqn srq, uint32_t,
                      engine::RingMemory) override {
    if (!contexts.at(context.value).srqs.contains(srq.value)) return missing();
    return {};
  }
  Result<base::SpreadTableId> create_spread_table(base::ContextId context,
                                                  std::span<const base::Qpn> queues) override {
    for (const base::Qpn queue : queues) {
      if (!contexts.at(context.value).qps.contains(queue.value)) return missing();
    }
    return base::SpreadTableId{add(contexts.at(context.value).tables)};
  }
  Result<> destroy_spread_table(base::ContextId context, base::SpreadTableId table) override {
    return remove(contexts.at(context.value).tables, table.value);
  }
  Result<base::Qpn> create_spreading_qp(base::ContextId context,
                                        const engine::CreateSpreadingQp& request) override {
    if (!contexts.at(context.value).tables.contains(request.table.value)) return missing();
    return base::Qpn{add(contexts.at(context.value).qps)};
  }
  [[nodiscard]] engine::EngineInfo info() const override { return {}; }
  bool step(base::TimeNs) override {
    steps.fetch_add(1);
    return false;
  }
  [[nodiscard]] base::TimeNs next_event() const override { return base::kNever; }

  std::map<uint32_t, Context> contexts;
  memory::Region region;
  uint32_t last_id = 0;
  uint32_t srq_limit = 0;
  engine::EventsRead events_read;  ///< of each object that is destroyed
  std::atomic<uint64_t> steps{0};

 private:
  Result<engine::EventsRead> remove_with_events(std::set<uint32_t>& from, uint32_t id) {
    if (auto removed = remove(from, id); !removed) return removed.error();
    return events_read;
  }
  static base::Error missing() { return base::Error{ENOENT, "no such object"}; }
  uint32_t add(std::set<uint32_t>& to) { return *to.insert(++last_id).first; }
  static Result<> remove(std::set<uint32_t>& from, uint32_t id) {
    if (from.erase(id) == 0) return missing();
    return {};
  }
};

}  // namespace flexins::daemon
