#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "verbs_pair.h"

/* Time-outs of half a second: an emulated processor on a busy machine can be away for most of that.
 * PSNs that soon pass 2^24. */
enum { kReads = 4, kRetries = 7, kTimeoutCode = 17, kRnrTimerCode = 12, kFirstPsn = 0xfffff0 };

void die(const char* format, ...) {
  const int error = errno;
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "error: ");
  vfprintf(stderr, format, arguments);
  fprintf(stderr, error != 0 ? " (%s)\n" : "\n", strerror(error));
  va_end(arguments);
  exit(1);
}

void problem(struct End* end, const char* format, ...) {
  if (end->verdict.problems++ != 0) return;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(end->verdict.text, sizeof end->verdict.text, format, arguments);
  va_end(arguments);
}

double seconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int has_family(const union ibv_gid* gid, int family) {
  static const uint8_t kMapped[12] = {[10] = 0xff, [11] = 0xff};
  if (gid->global.interface_id == 0 || (gid->raw[0] == 0xfe && gid->raw[1] == 0x80)) return 0;
  return (memcmp(gid->raw, kMapped, sizeof kMapped) == 0) == (family == AF_INET);
}

void open_device(struct Device* device, const char* name, int family) {
  int count = 0;
  struct ibv_device** all = ibv_get_device_list(&count);
  for (int i = 0; i < count && device->context == NULL; ++i) {
    if (name != NULL && strcmp(ibv_get_device_name(all[i]), name) != 0) continue;
    device->context = ibv_open_device(all[i]);
  }
  if (device->context == NULL) die("no device %s", name != NULL ? name : "at all");
  ibv_free_device_list(all);
  struct ibv_port_attr port;
  if (ibv_query_port(device->context, 1, &port) != 0) die("query_port");
  for (int i = 0;; ++i) {
    if (i == port.gid_tbl_len) die("no GID of the family asked for");
    if (ibv_query_gid(device->context, 1, i, &device->gid) != 0) continue;
    device->gid_index = i;
    if (has_family(&device->gid, family)) break;
  }
  device->pd = ibv_alloc_pd(device->context);
  if (device->pd == NULL) die("alloc_pd");
}

int takes_receive(uint32_t operation) {
  return operation == kSend || operation == kSendImmediate || operation == kWriteImmediate;
}
int is_atomic(uint32_t operation) { return operation == kFetchAdd || operation == kCompareSwap; }

uint8_t* message_at(const struct End* end, uint32_t k) {
  return end->memory + (size_t)end->stride * k;
}
uint8_t* receive_at(const struct End* end, uint32_t k) {
  return message_at(end, end->order.count + k);
}

static uint8_t byte_of(uint32_t k, uint32_t i) {
  return (uint8_t)(i * 7 + (i >> 8) * 13 + (i >> 16) * 29 + k * 31);
}
void fill_message(uint8_t* at, uint32_t k, uint32_t size) {
  for (uint32_t i = 0; i < size; ++i) at[i] = byte_of(k, i);
}
void check_message(struct End* end, const uint8_t* at, uint32_t k) {
  const uint32_t size = end->order.size;
  for (uint32_t i = 0; i < size; ++i) {
    if (at[i] == byte_of(k, i)) continue;
    problem(end, "message %u: byte %u is %02x, not %02x", k, i, at[i], byte_of(k, i));
    return;
  }
  if (at[size] != 0xee) problem(end, "message %u: something lies behind it", k);
}

static enum ibv_mtu mtu_code(uint32_t bytes) {
  enum ibv_mtu code = IBV_MTU_256;
  for (uint32_t mtu = 256; mtu < bytes; mtu *= 2) ++code;
  return code;
}

static void create_qp(struct End* end, uint32_t i) {
  const int is_datagram = end->order.type == IBV_QPT_UD;
  struct ibv_qp_init_attr create = {.send_cq = end->cq,
                                    .recv_cq = end->cq,
                                    .srq = end->srq,
                                    .cap = {.max_send_wr = end->order.count,
                                            .max_recv_wr = end->order.count,
                                            .max_send_sge = 1,
                                            .max_recv_sge = 1},
                                    .qp_type = (enum ibv_qp_type)end->order.type,
                                    .sq_sig_all = 1};
  end->qp[i] = ibv_create_qp(end->device->pd, &create);
  if (end->qp[i] == NULL) die("create_qp");
  struct ibv_qp_attr a = {.qp_state = IBV_QPS_INIT, .port_num = 1, .qkey = kQkey};
  int mask = IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT;
  mask |= is_datagram ? IBV_QP_QKEY : IBV_QP_ACCESS_FLAGS;
  a.qp_access_flags = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE;
  if (end->order.type == IBV_QPT_RC) {
    a.qp_access_flags |= IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC;
  }
  if ((errno = ibv_modify_qp(end->qp[i], &a, mask)) != 0) die("modify_qp to INIT");
  struct Info* info = &end->ours[i];
  info->qpn = end->qp[i]->qp_num;
  info->psn = kFirstPsn + i;
  info->rkey = end->region->rkey;
  info->address = (uintptr_t)end->memory;
  memcpy(info->gid, end->device->gid.raw, sizeof info->gid);
}

void create_end(struct End* end) {
  const struct Order* order = &end->order;
  end->qps = (order->flags & kShared) != 0 ? kQpsMax : 1;
  end->stride = (order->size + kGrhBytes + kGuardBytes + 63) / 64 * 64;
  const size_t bytes = (size_t)end->stride * order->count * 2;
  if (posix_memalign((void**)&end->memory, 4096, bytes) != 0) die("memory");
  memset(end->memory, 0xee, bytes);
  end->region = ibv_reg_mr(end->device->pd, end->memory, bytes,
                           IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
                               IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC);
  if (end->region == NULL) die("reg_mr");
  end->cq = ibv_create_cq(end->device->context, (int)(4 * order->count), NULL, NULL, 0);
  if (end->cq == NULL) die("create_cq");
  if (end->is_server && (order->flags & kShared) != 0) {
    struct ibv_srq_init_attr shared = {.attr = {.max_wr = order->count, .max_sge = 1}};
    end->srq = ibv_create_srq(end->device->pd, &shared);
    if (end->srq == NULL) die("create_srq");
  }
  for (uint32_t i = 0; i < end->qps; ++i) create_qp(end, i);
}

static void connect_qp(struct End* end, uint32_t i, const struct Info* theirs) {
  const uint32_t type = end->order.type;
  struct ibv_qp_attr a = {.qp_state = IBV_QPS_RTR};
  int mask = IBV_QP_STATE;
  struct ibv_ah_attr way = {.is_global = 1, .port_num = 1};
  way.grh.sgid_index = (uint8_t)end->device->gid_index;
  way.grh.hop_limit = 64;
  memcpy(way.grh.dgid.raw, theirs->gid, sizeof theirs->gid);
  if (type != IBV_QPT_UD) {
    a.path_mtu = mtu_code(end->order.mtu);
    a.dest_qp_num = theirs->qpn;
    a.rq_psn = theirs->psn;
    a.ah_attr = way;
    mask |= IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
  }
  if (type == IBV_QPT_RC) {
    a.max_dest_rd_atomic = kReads;
    a.min_rnr_timer = kRnrTimerCode;
    mask |= IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
  }
  if ((errno = ibv_modify_qp(end->qp[i], &a, mask)) != 0) die("modify_qp to RTR");
  a = (struct ibv_qp_attr){.qp_state = IBV_QPS_RTS, .sq_psn = end->ours[i].psn};
  mask = IBV_QP_STATE | IBV_QP_SQ_PSN;
  if (type == IBV_QPT_RC) {
    a.timeout = kTimeoutCode;
    a.retry_cnt = a.rnr_retry = kRetries;
    a.max_rd_atomic = kReads;
    mask |= IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC;
  }
  if ((errno = ibv_modify_qp(end->qp[i], &a, mask)) != 0) die("modify_qp to RTS");
  if (type == IBV_QPT_UD) {
    end->ah[i] = ibv_create_ah(end->device->pd, &way);
    if (end->ah[i] == NULL) die("create_ah");
  }
}

void connect_end(struct End* end, const struct Info* theirs) {
  for (uint32_t i = 0; i < end->qps; ++i) connect_qp(end, i, &theirs[i]);
}

void destroy_end(struct End* end) {
  for (uint32_t i = 0; i < end->qps; ++i) {
    if (ibv_destroy_qp(end->qp[i]) != 0) die("destroy_qp");
    if (end->ah[i] != NULL && ibv_destroy_ah(end->ah[i]) != 0) die("destroy_ah");
  }
  if (end->srq != NULL && ibv_destroy_srq(end->srq) != 0) die("destroy_srq");
  if (ibv_destroy_cq(end->cq) != 0) die("destroy_cq");
  if (ibv_dereg_mr(end->region) != 0) die("dereg_mr");
  free(end->memory);
}

struct ibv_wc next_completion(struct End* end) {
  struct ibv_wc done;
  const double deadline = seconds_now() + end->device->timeout_s;
  errno = 0;
  for (int found = 0; (found = ibv_poll_cq(end->cq, 1, &done)) != 1;) {
    if (found < 0) die("poll_cq");
    if (seconds_now() > deadline) die("no completion within %.0f s", end->device->timeout_s);
    usleep(50);
  }
  if (done.status != IBV_WC_SUCCESS) {
    die("work request %llu: %s", (unsigned long long)done.wr_id, ibv_wc_status_str(done.status));
  }
  return done;
}
