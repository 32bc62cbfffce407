#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "verbs_pair.h"

enum { kInFlight = 16, kAddend = 0x10001 };

static enum ibv_wr_opcode opcode_of(uint32_t operation) {
  switch (operation) {
    case kSend: return IBV_WR_SEND;
    case kSendImmediate: return IBV_WR_SEND_WITH_IMM;
    case kWrite: return IBV_WR_RDMA_WRITE;
    case kWriteImmediate: return IBV_WR_RDMA_WRITE_WITH_IMM;
    case kRead: return IBV_WR_RDMA_READ;
    case kFetchAdd: return IBV_WR_ATOMIC_FETCH_AND_ADD;
    default: return IBV_WR_ATOMIC_CMP_AND_SWP;
  }
}

static void post(struct End* end, const struct Info* server, uint32_t k) {
  const struct Order* order = &end->order;
  const uint32_t i = k % end->qps;
  struct ibv_sge piece = {(uintptr_t)message_at(end, k), order->size, end->region->lkey};
  struct ibv_send_wr request = {.wr_id = k,
                                .sg_list = &piece,
                                .num_sge = order->size == 0 ? 0 : 1,
                                .opcode = opcode_of(order->operation),
                                .imm_data = htonl(k)};
  const uint64_t target = server[i].address + (uint64_t)end->stride * k;
  if (order->type == IBV_QPT_UD) {
    request.wr.ud.ah = end->ah[i];
    request.wr.ud.remote_qpn = server[i].qpn;
    request.wr.ud.remote_qkey = kQkey;
  } else if (is_atomic(order->operation)) {
    // All on one counter of the server's.
    request.wr.atomic.remote_addr = server[i].address;
    request.wr.atomic.rkey = server[i].rkey;
    request.wr.atomic.compare_add = order->operation == kFetchAdd ? kAddend : k;
    request.wr.atomic.swap = k + 1;
  } else {
    request.wr.rdma.remote_addr = target;
    request.wr.rdma.rkey = server[i].rkey;
  }
  struct ibv_send_wr* refused = NULL;
  if ((errno = ibv_post_send(end->qp[i], &request, &refused)) != 0) die("post_send");
}

static void check_fetched(struct End* end, uint32_t k) {
  const uint32_t operation = end->order.operation;
  if (operation == kRead) check_message(end, message_at(end, k), k);
  if (!is_atomic(operation)) return;
  uint64_t before = 0;
  memcpy(&before, message_at(end, k), sizeof before);
  const uint64_t expected = operation == kFetchAdd ? (uint64_t)k * kAddend : k;
  if (before != expected) {
    problem(end, "atomic %u fetched %llx, not %llx", k, (unsigned long long)before,
            (unsigned long long)expected);
  }
}

void client_plays(struct End* end, const struct Info* server) {
  const struct Order* order = &end->order;
  const int fetches = order->operation == kRead || is_atomic(order->operation);
  uint32_t posted = 0;
  for (uint32_t k = 0; k < order->count && !fetches; ++k) {
    fill_message(message_at(end, k), k, order->size);
  }
  for (uint32_t done = 0; done < order->count; ++done) {
    while (posted < order->count && posted - done < kInFlight) post(end, server, posted++);
    const struct ibv_wc completion = next_completion(end);
    // QPs of their own finish in an order of their own.
    if (end->qps == 1 && completion.wr_id != done) problem(end, "completion %u out of order", done);
    if (fetches) check_fetched(end, (uint32_t)completion.wr_id);
  }
}
