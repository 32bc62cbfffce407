#pragma once

#include <cstdint>
#include <vector>

#include "base/flow.h"
#include "base/ids.h"

namespace flexins::engine {

struct QueuePair;

/// Receive work queues that frames are spread over; their number is a power of two.
struct SpreadTable {
  base::SpreadTableId id;
  std::vector<QueuePair*> queues;
  uint32_t users = 0;  ///< QPs
};

/// How a QP spreads the frames that are for it.
struct Spread {
  SpreadTable* table = nullptr;
  base::ReceiveHash hash;

  [[nodiscard]] QueuePair& queue_for(const base::FlowKey& key) const noexcept;
};

}  // namespace flexins::engine
