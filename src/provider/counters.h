#pragma once

#include <atomic>
#include <mutex>
#include <vector>

#include "provider/abi.h"

/// Counters of flows: the engine counts packets and bytes; the program says which of them it wants
/// to read at which index.

namespace flexins::provider {

struct Counters {
  ibv_counters face{};  ///< first: libibverbs' pointer is ours
  uint32_t id = 0;
  std::mutex mutex;  ///< of all below
  std::vector<ibv_counter_attach_attr> points;
  uint32_t flows = 0;

  static Counters& of(ibv_counters* face) { return *reinterpret_cast<Counters*>(face); }
};

ibv_counters* create_counters(ibv_context* context, ibv_counters_init_attr* attributes);
/// Before flows are counted in them (EBUSY then). EOPNOTSUPP with a flow: those name their counters
/// when they are created.
int attach_counters(ibv_counters* counters, ibv_counter_attach_attr* attributes, ibv_flow* flow);
int read_counters(ibv_counters* counters, uint64_t* values, uint32_t count, uint32_t flags);
int destroy_counters(ibv_counters* counters);

}  // namespace flexins::provider
