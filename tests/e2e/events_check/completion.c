#include <pthread.h>
#include <unistd.h>

#include "fixture.h"

/* Events of completion queues. */

enum { kFew = 8, kMany = 64, kRounds = 200, kStream = 2000 };

/* One channel that does not block, and links whose receives complete into CQs of it. */
struct bench {
  struct device* device;
  struct ibv_comp_channel* channel;
  int count;
  struct link links[kMany];
  int numbers[kMany]; /* a CQ's context is where its number stands here */
  struct ibv_cq* silent_cq;
  struct link silent; /* for settle() */
};

static void set_up(struct bench* bench, struct device* device, int count) {
  bench->device = device;
  bench->count = count;
  bench->channel = ibv_create_comp_channel(device->context);
  REQUIRE(bench->channel != NULL);
  set_nonblocking(bench->channel->fd);
  for (int i = 0; i < count; ++i) {
    bench->numbers[i] = i;
    struct ibv_cq* cq = ibv_create_cq(device->context, kQueueDepth, &bench->numbers[i],
                                      bench->channel, i % device->context->num_comp_vectors);
    REQUIRE(cq != NULL);
    make_link(&bench->links[i], device, cq, NULL);
  }
  bench->silent_cq = ibv_create_cq(device->context, kQueueDepth, NULL, NULL, 0);
  REQUIRE(bench->silent_cq != NULL);
  make_link(&bench->silent, device, bench->silent_cq, NULL);
  /* The end that only receives has its state RTR; its first message raises an event of its own. */
  ready_to_send(bench->silent.far_qp);
  for (int i = 0; i < count; ++i) ready_to_send(bench->links[i].far_qp);
}

static void tear_down(struct bench* bench) {
  for (int i = 0; i < bench->count; ++i) {
    close_link(&bench->links[i]);
    REQUIRE(ibv_destroy_cq(bench->links[i].received) == 0);
  }
  close_link(&bench->silent);
  REQUIRE(ibv_destroy_cq(bench->silent_cq) == 0);
  REQUIRE(ibv_destroy_comp_channel(bench->channel) == 0);
}

static void arm(struct link* link, int solicited_only) {
  REQUIRE(ibv_req_notify_cq(link->received, solicited_only) == 0);
}

static bool silence(struct bench* bench) {
  settle(&bench->silent);
  return take_event(bench->channel) == NULL;
}

/* Exactly one event, of this link's CQ. */
static bool one_event(struct bench* bench, struct link* link) {
  settle(&bench->silent);
  return take_event(bench->channel) == link->received && take_event(bench->channel) == NULL;
}

static void drain(struct link* link, int count) {
  for (int i = 0; i < count; ++i) {
    REQUIRE(next_completion(link->received).status == IBV_WC_SUCCESS);
  }
}

static void once_per_arm(struct bench* bench) {
  struct link* link = &bench->links[0];
  deliver(link, 0);
  REQUIRE(silence(bench)); /* never armed */
  arm(link, 0);
  REQUIRE(silence(bench)); /* what waits already is for the program to poll */
  deliver(link, 0);
  deliver(link, 0);
  REQUIRE(one_event(bench, link));
  deliver(link, 0);
  REQUIRE(silence(bench));
  drain(link, 4);
  arm(link, 0);
  arm(link, 0);
  deliver(link, 0);
  REQUIRE(one_event(bench, link)); /* arming twice is arming once */
  drain(link, 1);
}

static void solicited_only(struct bench* bench) {
  struct link* link = &bench->links[1];
  arm(link, 1);
  deliver(link, 0);
  REQUIRE(silence(bench));
  deliver(link, IBV_SEND_SOLICITED);
  REQUIRE(one_event(bench, link));
  deliver(link, IBV_SEND_SOLICITED);
  REQUIRE(silence(bench));
  drain(link, 3);

  arm(link, 0);
  arm(link, 1); /* does not weaken the first */
  deliver(link, 0);
  REQUIRE(one_event(bench, link));
  drain(link, 1);
  arm(link, 1);
  arm(link, 0); /* strengthens it */
  deliver(link, 0);
  REQUIRE(one_event(bench, link));
  drain(link, 1);

  arm(link, 1);
  post_receive(link, 0);
  set_error(link->far_qp);
  REQUIRE(next_completion(link->received).status == IBV_WC_WR_FLUSH_ERR);
  REQUIRE(one_event(bench, link));
}

/* Each round arms every CQ and gives it one message: one event each, by edges only. */
static void edges(struct bench* bench) {
  const int epoll = watch_edges(bench->channel->fd);
  for (int round = 0; round < kRounds; ++round) {
    int seen[kMany] = {0};
    for (int i = 0; i < bench->count; ++i) {
      arm(&bench->links[i], round & 1);
      post_receive(&bench->links[i], 0);
      post_message(&bench->links[i], 0, IBV_SEND_SOLICITED);
    }
    for (int left = bench->count; left > 0;) {
      await_edge(epoll);
      for (struct ibv_cq* cq; (cq = take_event(bench->channel)) != NULL; --left) {
        const int number = *(int*)cq->cq_context;
        REQUIRE(cq == bench->links[number].received);
        REQUIRE(++seen[number] == 1);
        drain(&bench->links[number], 1);
      }
    }
    for (int i = 0; i < bench->count; ++i) next_completion(bench->links[i].sent);
  }
  REQUIRE(silence(bench));
  close(epoll);
}

static void* send_stream(void* argument) {
  struct bench* bench = argument;
  for (int sent = 0; sent < kStream; ++sent) {
    for (int i = 0; i < bench->count; ++i) post_message(&bench->links[i], 0, 0);
    for (int i = 0; i < bench->count; ++i) {
      REQUIRE(next_completion(bench->links[i].sent).status == IBV_WC_SUCCESS);
    }
  }
  return NULL;
}

/* As a server runs: messages come when they will; on an event, arm, then poll until empty. */
static void stream(struct bench* bench) {
  const int epoll = watch_edges(bench->channel->fd);
  for (int i = 0; i < bench->count; ++i) {
    for (int n = 0; n < kQueueDepth / 2; ++n) post_receive(&bench->links[i], 0);
    arm(&bench->links[i], 0);
  }
  pthread_t sender;
  REQUIRE(pthread_create(&sender, NULL, send_stream, bench) == 0);
  for (int left = kStream * bench->count; left > 0;) {
    await_edge(epoll);
    for (struct ibv_cq* cq; (cq = take_event(bench->channel)) != NULL;) {
      struct link* link = &bench->links[*(int*)cq->cq_context];
      arm(link, 0);
      for (struct ibv_wc wc; ibv_poll_cq(cq, 1, &wc) == 1; --left) {
        REQUIRE(wc.status == IBV_WC_SUCCESS);
        post_receive(link, 0);
      }
    }
  }
  REQUIRE(pthread_join(sender, NULL) == 0);
  close(epoll);
}

struct waiter {
  struct ibv_comp_channel* channel;
  struct link* link;
};

static void* wait_blocking(void* argument) {
  const struct waiter* waiter = argument;
  for (int left = kRounds; left > 0;) {
    struct ibv_cq* cq = NULL;
    void* cq_context = NULL;
    REQUIRE(ibv_get_cq_event(waiter->channel, &cq, &cq_context) == 0);
    REQUIRE(cq == waiter->link->received && cq_context == waiter);
    ibv_ack_cq_events(cq, 1);
    arm(waiter->link, 0);
    for (struct ibv_wc wc; ibv_poll_cq(cq, 1, &wc) == 1; --left) {
      REQUIRE(wc.status == IBV_WC_SUCCESS);
    }
  }
  return NULL;
}

/* One thread sleeps in ibv_get_cq_event while another polls CQs of the same device. */
static void blocking(struct device* device, struct link* polled) {
  struct ibv_comp_channel* channel = ibv_create_comp_channel(device->context);
  REQUIRE(channel != NULL);
  struct link link;
  struct waiter waiter = {channel, &link};
  struct ibv_cq* cq = ibv_create_cq(device->context, kQueueDepth, &waiter, channel, 0);
  REQUIRE(cq != NULL);
  make_link(&link, device, cq, NULL);
  ready_to_send(link.far_qp);
  arm(&link, 0);
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, wait_blocking, &waiter) == 0);
  for (int round = 0; round < kRounds; ++round) {
    settle(polled);
    deliver(&link, 0);
    settle(polled);
  }
  REQUIRE(pthread_join(thread, NULL) == 0);
  close_link(&link);
  REQUIRE(ibv_destroy_cq(cq) == 0);
  REQUIRE(ibv_destroy_comp_channel(channel) == 0);
}

void run_completion_cases(struct device* device) {
  static struct bench bench;
  set_up(&bench, device, kFew);
  once_per_arm(&bench);
  edges(&bench);
  stream(&bench);
  blocking(device, &bench.silent);
  tear_down(&bench);

  set_up(&bench, device, kFew);
  solicited_only(&bench);
  tear_down(&bench);

  set_up(&bench, device, kMany);
  edges(&bench);
  tear_down(&bench);
}
