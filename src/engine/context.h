#pragma once

#include <vector>

#include <absl/container/btree_map.h>
#include <absl/container/flat_hash_map.h>

#include "base/intrusive_queue.h"
#include "engine/address_handle.h"
#include "engine/completion_queue.h"
#include "engine/engine.h"
#include "engine/flow_table.h"
#include "engine/queue_pair.h"
#include "engine/shared_receives.h"
#include "engine/spread_table.h"
#include "engine/xrc_domain.h"
#include "pipe/submission_ring.h"

namespace flexins::engine {

/// Everything that one application opened. What it names is looked up in here, so that it cannot
/// name what belongs to another.
struct Context {
  base::ContextId id;
  EventSink* events = nullptr;
  std::vector<pipe::SubmissionConsumer> submission_rings;
  absl::flat_hash_map<uint32_t, uint32_t> pds;       ///< id → regions and QPs that use it
  absl::flat_hash_map<uint32_t, uint32_t> channels;  ///< id → CQs that use it
  absl::flat_hash_map<uint32_t, std::unique_ptr<CompletionQueue>> cqs;
  /// Ordered: when all of them fail or go, they do so in an order that a seed gives again.
  absl::btree_map<uint32_t, std::unique_ptr<QueuePair>> qps;
  absl::flat_hash_map<uint32_t, std::unique_ptr<SharedReceives>> srqs;
  absl::flat_hash_map<uint32_t, XrcdHandle> xrcds;
  absl::flat_hash_map<uint32_t, base::PdId> regions;  ///< key → PD
  absl::flat_hash_map<uint32_t, base::PdId> windows;  ///< upper bits of the key → PD
  absl::flat_hash_map<uint32_t, AddressHandle> address_handles;
  absl::flat_hash_map<uint32_t, std::unique_ptr<FlowCounters>> flow_counters;
  absl::flat_hash_map<uint32_t, std::unique_ptr<SpreadTable>> spread_tables;

  /// QPs that may have something to send.
  base::IntrusiveQueue<QueuePair, &QueuePair::next_ready, &QueuePair::is_ready> ready;
  Context* next_ready = nullptr;  ///< in the engine's queue of contexts with ready QPs
  bool is_ready = false;
};

}  // namespace flexins::engine
