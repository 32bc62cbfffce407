#pragma once

#include <atomic>

#include "pipe/receive_ring.h"
#include "provider/abi.h"
#include "provider/context.h"
#include "provider/shared_memory.h"
#include "provider/spin_lock.h"

namespace flexins::provider {

/// A shared receive queue. The engine copies an entry when a message takes it and says so in the
/// ring; from then on its place is free.
struct Srq {
  ibv_srq face{};  ///< first: libibverbs' pointer is ours
  Context* context = nullptr;
  uint32_t number = 0;
  uint32_t max_wr = 0;
  uint32_t max_sge = 0;
  SharedMemory memory;
  std::atomic<uint32_t> async_events_reported{0};

  SpinLock lock;  ///< of all below
  pipe::ReceiveProducer receives;

  static Srq& of(ibv_srq* face) { return *reinterpret_cast<Srq*>(face); }
};

ibv_srq* create_srq(ibv_pd* pd, ibv_srq_init_attr* attributes);
ibv_srq* create_srq_ex(ibv_context* context, ibv_srq_init_attr_ex* attributes);
int modify_srq(ibv_srq* srq, ibv_srq_attr* attributes, int mask);
int query_srq(ibv_srq* srq, ibv_srq_attr* attributes);
int destroy_srq(ibv_srq* srq);
int get_srq_number(ibv_srq* srq, uint32_t* number);
int post_srq_receive(ibv_srq* srq, ibv_recv_wr* first, ibv_recv_wr** bad);

}  // namespace flexins::provider
