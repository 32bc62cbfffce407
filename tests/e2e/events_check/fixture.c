#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { kPageBytes = 4096, kRights = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE };

void require(bool condition, const char* text, const char* file, int line) {
  if (condition) return;
  fprintf(stderr, "%s:%d: not so: %s (errno: %s)\n", file, line, text, strerror(errno));
  exit(1);
}

void open_device(struct device* device) {
  struct ibv_device** list = ibv_get_device_list(NULL);
  REQUIRE(list != NULL && list[0] != NULL);
  device->context = ibv_open_device(list[0]);
  REQUIRE(device->context != NULL);
  ibv_free_device_list(list);
  REQUIRE(ibv_query_gid(device->context, 1, 0, &device->gid) == 0);
  device->pd = ibv_alloc_pd(device->context);
  REQUIRE(device->pd != NULL);
  device->page = aligned_alloc(kPageBytes, kPageBytes);
  REQUIRE(device->page != NULL);
  const int rights = kRights;
  device->mr = ibv_reg_mr(device->pd, device->page, kPageBytes, rights);
  REQUIRE(device->mr != NULL);
  set_nonblocking(device->context->async_fd);
}

void close_device(struct device* device) {
  REQUIRE(ibv_dereg_mr(device->mr) == 0);
  free(device->page);
  REQUIRE(ibv_dealloc_pd(device->pd) == 0);
  REQUIRE(ibv_close_device(device->context) == 0);
}

static struct ibv_qp* make_qp(struct device* device, struct ibv_cq* send, struct ibv_cq* receive,
                              struct ibv_srq* srq) {
  struct ibv_qp_init_attr wanted = {0};
  wanted.qp_type = IBV_QPT_RC;
  wanted.send_cq = send;
  wanted.recv_cq = receive;
  wanted.srq = srq;
  wanted.sq_sig_all = 1;
  wanted.cap.max_send_wr = kQueueDepth;
  wanted.cap.max_recv_wr = srq != NULL ? 0 : kQueueDepth;
  wanted.cap.max_send_sge = wanted.cap.max_recv_sge = 1;
  struct ibv_qp* qp = ibv_create_qp(device->pd, &wanted);
  REQUIRE(qp != NULL);
  return qp;
}

static void ready_to_receive(struct device* device, struct ibv_qp* qp, uint32_t peer) {
  struct ibv_qp_attr attr = {0};
  attr.qp_state = IBV_QPS_INIT;
  attr.port_num = 1;
  attr.qp_access_flags = kRights;
  REQUIRE(ibv_modify_qp(qp, &attr,
                        IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS) == 0);
  attr.qp_state = IBV_QPS_RTR;
  attr.path_mtu = IBV_MTU_1024;
  attr.dest_qp_num = peer;
  attr.max_dest_rd_atomic = 1;
  attr.min_rnr_timer = 1;
  attr.ah_attr.is_global = 1;
  attr.ah_attr.grh.dgid = device->gid;
  attr.ah_attr.port_num = 1;
  REQUIRE(ibv_modify_qp(qp, &attr,
                        IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
                            IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER) == 0);
}

void ready_to_send(struct ibv_qp* qp) {
  struct ibv_qp_attr attr = {0};
  attr.qp_state = IBV_QPS_RTS;
  attr.timeout = 14;
  attr.retry_cnt = attr.rnr_retry = 7;
  attr.max_rd_atomic = 1;
  REQUIRE(ibv_modify_qp(qp, &attr,
                        IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
                            IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC) == 0);
}

void set_error(struct ibv_qp* qp) {
  struct ibv_qp_attr attr = {0};
  attr.qp_state = IBV_QPS_ERR;
  REQUIRE(ibv_modify_qp(qp, &attr, IBV_QP_STATE) == 0);
}

void make_link(struct link* link, struct device* device, struct ibv_cq* received,
               struct ibv_srq* srq) {
  link->device = device;
  link->sent = ibv_create_cq(device->context, kQueueDepth, NULL, NULL, 0);
  REQUIRE(link->sent != NULL);
  link->received = received;
  link->near_qp = make_qp(device, link->sent, link->sent, NULL);
  link->far_qp = make_qp(device, received, received, srq);
  ready_to_receive(device, link->near_qp, link->far_qp->qp_num);
  ready_to_receive(device, link->far_qp, link->near_qp->qp_num);
  ready_to_send(link->near_qp);
}

void close_link(struct link* link) {
  REQUIRE(ibv_destroy_qp(link->near_qp) == 0);
  REQUIRE(ibv_destroy_qp(link->far_qp) == 0);
  REQUIRE(ibv_destroy_cq(link->sent) == 0);
}

static struct ibv_sge part_of(struct device* device, int message) {
  struct ibv_sge sge = {0};
  sge.addr = (uintptr_t)(device->page + message * kMessageBytes);
  sge.length = kMessageBytes;
  sge.lkey = device->mr->lkey;
  return sge;
}

void post_receive(struct link* link, uint64_t wr_id) {
  struct ibv_sge sge = part_of(link->device, 1);
  struct ibv_recv_wr wr = {.wr_id = wr_id, .sg_list = &sge, .num_sge = 1};
  struct ibv_recv_wr* bad = NULL;
  REQUIRE(ibv_post_recv(link->far_qp, &wr, &bad) == 0);
}

void post_srq_receive(struct device* device, struct ibv_srq* srq) {
  struct ibv_sge sge = part_of(device, 1);
  struct ibv_recv_wr wr = {.sg_list = &sge, .num_sge = 1};
  struct ibv_recv_wr* bad = NULL;
  REQUIRE(ibv_post_srq_recv(srq, &wr, &bad) == 0);
}

void post_message(struct link* link, uint64_t wr_id, unsigned flags) {
  struct ibv_sge sge = part_of(link->device, 0);
  struct ibv_send_wr wr = {.wr_id = wr_id, .sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND};
  struct ibv_send_wr* bad = NULL;
  wr.send_flags = flags;
  REQUIRE(ibv_post_send(link->near_qp, &wr, &bad) == 0);
}

void post_write(struct link* link, uint32_t rkey) {
  struct ibv_sge sge = part_of(link->device, 0);
  struct ibv_send_wr wr = {.sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_RDMA_WRITE};
  struct ibv_send_wr* bad = NULL;
  wr.wr.rdma.remote_addr = (uintptr_t)link->device->page + kMessageBytes;
  wr.wr.rdma.rkey = rkey;
  REQUIRE(ibv_post_send(link->near_qp, &wr, &bad) == 0);
}

struct ibv_wc next_completion(struct ibv_cq* cq) {
  struct ibv_wc wc;
  int found = 0;
  while (found == 0) found = ibv_poll_cq(cq, 1, &wc);
  REQUIRE(found == 1);
  return wc;
}

void deliver(struct link* link, unsigned flags) {
  post_receive(link, 0);
  post_message(link, 0, flags);
  REQUIRE(next_completion(link->sent).status == IBV_WC_SUCCESS);
}

void settle(struct link* other) {
  deliver(other, 0);
  REQUIRE(next_completion(other->received).status == IBV_WC_SUCCESS);
}

void set_nonblocking(int fd) { REQUIRE(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0); }

int watch_edges(int fd) {
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  REQUIRE(epoll >= 0);
  struct epoll_event wish = {.events = EPOLLIN | EPOLLET};
  REQUIRE(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &wish) == 0);
  return epoll;
}

void await_edge(int epoll) {
  struct epoll_event found;
  REQUIRE(epoll_wait(epoll, &found, 1, -1) == 1);
  REQUIRE(found.events == EPOLLIN);
}

struct ibv_cq* take_event(struct ibv_comp_channel* channel) {
  struct ibv_cq* cq = NULL;
  void* cq_context = NULL;
  if (ibv_get_cq_event(channel, &cq, &cq_context) != 0) {
    REQUIRE(errno == EAGAIN);
    return NULL;
  }
  REQUIRE(cq_context == cq->cq_context);
  ibv_ack_cq_events(cq, 1);
  return cq;
}

bool take_async(struct device* device, struct ibv_async_event* event) {
  if (ibv_get_async_event(device->context, event) == 0) return true;
  REQUIRE(errno == EAGAIN);
  return false;
}
