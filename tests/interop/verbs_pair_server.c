#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "verbs_pair.h"

enum { kAddend = 0x10001 };

/* Enough for what is under way when the client says that it has sent everything. */
static const double kQuietSeconds = 0.5;

static uint32_t grh_bytes(const struct End* end) {
  return end->order.type == IBV_QPT_UD ? kGrhBytes : 0;
}

void post_receives(struct End* end) {
  const struct Order* order = &end->order;
  if (order->operation == kRead) {
    for (uint32_t k = 0; k < order->count; ++k) {
      fill_message(message_at(end, k), k, order->size);
    }
  }
  if (is_atomic(order->operation)) memset(end->memory, 0, sizeof(uint64_t));
  if (!takes_receive(order->operation)) return;
  for (uint32_t k = 0; k < order->count; ++k) {
    struct ibv_sge piece = {(uintptr_t)receive_at(end, k), order->size + grh_bytes(end),
                            end->region->lkey};
    struct ibv_recv_wr request = {.wr_id = k, .sg_list = &piece, .num_sge = 1};
    struct ibv_recv_wr* refused = NULL;
    errno = end->srq != NULL ? ibv_post_srq_recv(end->srq, &request, &refused)
                             : ibv_post_recv(end->qp[0], &request, &refused);
    if (errno != 0) die("post_recv");
  }
}

static void check_receive(struct End* end, const struct ibv_wc* done) {
  const struct Order* order = &end->order;
  const uint32_t grh = grh_bytes(end);
  uint32_t k = end->verdict.received++;
  if (order->operation != kSend) {
    if ((done->wc_flags & IBV_WC_WITH_IMM) == 0) {
      problem(end, "receive %u without immediate", k);
      return;
    }
    const uint32_t number = ntohl(done->imm_data);
    const int in_order = end->qps == 1 && (order->flags & kLossy) == 0;
    if (number >= order->count || (in_order && number != k)) {
      problem(end, "receive %u has the immediate %u", k, number);
      return;
    }
    k = number;
  }
  if (order->operation == kWriteImmediate) {
    check_message(end, message_at(end, k), k);
    return;
  }
  if (done->byte_len != order->size + grh) {
    problem(end, "message %u: %u bytes received", k, done->byte_len);
  }
  check_message(end, receive_at(end, (uint32_t)done->wr_id) + grh, k);
}

static void drain_lossy(struct End* end) {
  struct ibv_wc done;
  for (double quiet_since = seconds_now(); seconds_now() < quiet_since + kQuietSeconds;) {
    if (ibv_poll_cq(end->cq, 1, &done) != 1) {
      usleep(1000);
      continue;
    }
    if (done.status != IBV_WC_SUCCESS) die("receive: %s", ibv_wc_status_str(done.status));
    check_receive(end, &done);
    quiet_since = seconds_now();
  }
  if (end->verdict.received < end->order.count / 2) problem(end, "most messages are lost");
}

void server_checks(struct End* end) {
  const struct Order* order = &end->order;
  if (takes_receive(order->operation) && (order->flags & kLossy) != 0) {
    drain_lossy(end);
    return;
  }
  if (takes_receive(order->operation)) {
    while (end->verdict.received < order->count) {
      const struct ibv_wc done = next_completion(end);
      check_receive(end, &done);
    }
  }
  if (order->operation == kWrite) {
    const double deadline = seconds_now() + kQuietSeconds;
    // Of an unreliable WRITE the poster's completion says only that it was sent.
    while (order->type == IBV_QPT_UC && seconds_now() < deadline) usleep(1000);
    for (uint32_t k = 0; k < order->count; ++k) check_message(end, message_at(end, k), k);
  }
  if (is_atomic(order->operation)) {
    uint64_t value = 0;
    memcpy(&value, end->memory, sizeof value);
    const uint64_t expected =
        (uint64_t)order->count * (order->operation == kFetchAdd ? kAddend : 1);
    if (value != expected) problem(end, "the counter is %llx", (unsigned long long)value);
  }
}
