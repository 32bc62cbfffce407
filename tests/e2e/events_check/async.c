#include <unistd.h>

#include "fixture.h"

/* Asynchronous events: each with its element, once, read by edges only. */

enum { kLinks = 16, kReceives = 32, kLimit = 30, kOverrunBound = 100000 };

struct bench {
  struct device* device;
  int epoll;
  struct ibv_cq* cq;
  struct ibv_cq* silent_cq;
  struct link silent; /* for settle() */
};

static void expect_silence(struct bench* bench) {
  struct ibv_async_event event;
  settle(&bench->silent);
  REQUIRE(!take_async(bench->device, &event));
}

/* The next event, acknowledged. */
static struct ibv_async_event next(struct bench* bench) {
  struct ibv_async_event event;
  while (!take_async(bench->device, &event)) await_edge(bench->epoll);
  ibv_ack_async_event(&event);
  return event;
}

static void expect_qp(struct bench* bench, enum ibv_event_type type, struct ibv_qp* qp) {
  const struct ibv_async_event event = next(bench);
  REQUIRE(event.event_type == type);
  REQUIRE(event.element.qp == qp);
}

static void established(struct bench* bench) {
  struct link link;
  make_link(&link, bench->device, bench->cq, NULL);
  deliver(&link, 0);
  deliver(&link, 0);
  expect_qp(bench, IBV_EVENT_COMM_EST, link.far_qp);
  expect_silence(bench);
  REQUIRE(next_completion(bench->cq).status == IBV_WC_SUCCESS);
  REQUIRE(next_completion(bench->cq).status == IBV_WC_SUCCESS);
  close_link(&link);
}

/* Many at once: none is lost, and none comes twice. */
static void access_errors(struct bench* bench) {
  struct link links[kLinks];
  for (int i = 0; i < kLinks; ++i) {
    make_link(&links[i], bench->device, bench->cq, NULL);
    ready_to_send(links[i].far_qp);
    links[i].far_qp->qp_context = &links[i];
  }
  for (int i = 0; i < kLinks; ++i) post_write(&links[i], bench->device->mr->rkey ^ 1U);
  bool seen[kLinks] = {false};
  for (int i = 0; i < kLinks; ++i) {
    const struct ibv_async_event event = next(bench);
    REQUIRE(event.event_type == IBV_EVENT_QP_ACCESS_ERR);
    struct link* link = event.element.qp->qp_context;
    REQUIRE(link >= links && link < links + kLinks && event.element.qp == link->far_qp);
    REQUIRE(!seen[link - links]);
    seen[link - links] = true;
  }
  for (int i = 0; i < kLinks; ++i) {
    REQUIRE(next_completion(links[i].sent).status == IBV_WC_REM_ACCESS_ERR);
  }
  expect_silence(bench);
  for (int i = 0; i < kLinks; ++i) close_link(&links[i]);
}

static void shared_receives(struct bench* bench) {
  struct ibv_srq_init_attr wanted = {.attr = {.max_wr = kReceives, .max_sge = 1}};
  struct ibv_srq* srq = ibv_create_srq(bench->device->pd, &wanted);
  REQUIRE(srq != NULL);
  for (int i = 0; i < kReceives; ++i) post_srq_receive(bench->device, srq);
  struct link link;
  make_link(&link, bench->device, bench->cq, srq);
  ready_to_send(link.far_qp);
  struct ibv_srq_attr limit = {.srq_limit = kLimit};
  REQUIRE(ibv_modify_srq(srq, &limit, IBV_SRQ_LIMIT) == 0);
  for (int left = kReceives - 1; left >= kLimit - 2; --left) {
    post_message(&link, 0, 0);
    REQUIRE(next_completion(link.sent).status == IBV_WC_SUCCESS);
    REQUIRE(next_completion(bench->cq).status == IBV_WC_SUCCESS);
    if (left != kLimit - 1) {
      expect_silence(bench); /* not yet, or disarmed by the first */
      continue;
    }
    const struct ibv_async_event event = next(bench);
    REQUIRE(event.event_type == IBV_EVENT_SRQ_LIMIT_REACHED && event.element.srq == srq);
  }
  set_error(link.far_qp);
  expect_qp(bench, IBV_EVENT_QP_LAST_WQE_REACHED, link.far_qp);
  expect_silence(bench);
  close_link(&link);
  REQUIRE(ibv_destroy_srq(srq) == 0);
}

/* Fills a CQ that nobody polls: the CQ's error, and the end of the queue pair that uses it. */
static void overrun(struct bench* bench) {
  struct ibv_cq* full = ibv_create_cq(bench->device->context, 1, NULL, NULL, 0);
  REQUIRE(full != NULL);
  struct link link;
  make_link(&link, bench->device, full, NULL);
  ready_to_send(link.far_qp);
  struct ibv_async_event event;
  int sent = 0;
  while (!take_async(bench->device, &event)) {
    REQUIRE(++sent < kOverrunBound);
    struct ibv_recv_wr* bad = NULL;
    struct ibv_recv_wr empty = {0};
    if (ibv_post_recv(link.far_qp, &empty, &bad) != 0) continue;
    struct ibv_send_wr message = {.opcode = IBV_WR_SEND};
    struct ibv_send_wr* bad_send = NULL;
    if (ibv_post_send(link.near_qp, &message, &bad_send) == 0) next_completion(link.sent);
  }
  REQUIRE(event.event_type == IBV_EVENT_CQ_ERR && event.element.cq == full);
  ibv_ack_async_event(&event);
  expect_qp(bench, IBV_EVENT_QP_FATAL, link.far_qp);
  expect_silence(bench);
  close_link(&link);
  REQUIRE(ibv_destroy_cq(full) == 0);
}

void run_async_cases(struct device* device) {
  struct bench bench = {.device = device, .epoll = watch_edges(device->context->async_fd)};
  bench.cq = ibv_create_cq(device->context, kQueueDepth, NULL, NULL, 0);
  bench.silent_cq = ibv_create_cq(device->context, kQueueDepth, NULL, NULL, 0);
  REQUIRE(bench.cq != NULL && bench.silent_cq != NULL);
  make_link(&bench.silent, device, bench.silent_cq, NULL);
  ready_to_send(bench.silent.far_qp);
  established(&bench);
  access_errors(&bench);
  shared_receives(&bench);
  overrun(&bench);
  close_link(&bench.silent);
  REQUIRE(ibv_destroy_cq(bench.silent_cq) == 0);
  REQUIRE(ibv_destroy_cq(bench.cq) == 0);
  close(bench.epoll);
}
