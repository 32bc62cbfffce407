#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "fixture.h"

/* What is destroyed while events of it are on their way. */

enum { kRaces = 300, kHeadStartUs = 50000 };

struct destruction {
  struct ibv_cq* cq;
  struct ibv_qp* qp; /* one of the two */
  atomic_bool over;
};

static void* destroy(void* argument) {
  struct destruction* it = argument;
  REQUIRE((it->cq != NULL ? ibv_destroy_cq(it->cq) : ibv_destroy_qp(it->qp)) == 0);
  atomic_store(&it->over, true);
  return NULL;
}

static pthread_t begin(struct destruction* it) {
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, destroy, it) == 0);
  usleep(kHeadStartUs); /* so that a destruction that does not wait has time to show it */
  REQUIRE(!atomic_load(&it->over));
  return thread;
}

/* ibv_destroy_cq waits until the event that was taken is acknowledged; one that was not taken
   vanishes. */
static void unacknowledged(struct device* device) {
  struct ibv_comp_channel* channel = ibv_create_comp_channel(device->context);
  REQUIRE(channel != NULL);
  struct link link;
  struct ibv_cq* cq = ibv_create_cq(device->context, kQueueDepth, NULL, channel, 0);
  REQUIRE(cq != NULL);
  make_link(&link, device, cq, NULL);
  ready_to_send(link.far_qp);
  REQUIRE(ibv_req_notify_cq(cq, 0) == 0);
  deliver(&link, 0);
  struct ibv_cq* named = NULL;
  void* cq_context = NULL;
  REQUIRE(ibv_get_cq_event(channel, &named, &cq_context) == 0 && named == cq);
  REQUIRE(ibv_req_notify_cq(cq, 0) == 0);
  deliver(&link, 0); /* its event is not taken */
  close_link(&link);

  struct destruction it = {.cq = cq};
  const pthread_t thread = begin(&it);
  ibv_ack_cq_events(cq, 1);
  REQUIRE(pthread_join(thread, NULL) == 0);
  set_nonblocking(channel->fd);
  REQUIRE(take_event(channel) == NULL);
  REQUIRE(ibv_destroy_comp_channel(channel) == 0);
}

/* The same for the asynchronous event of a queue pair. */
static void unacknowledged_async(struct device* device) {
  struct link link;
  struct ibv_cq* cq = ibv_create_cq(device->context, kQueueDepth, NULL, NULL, 0);
  REQUIRE(cq != NULL);
  make_link(&link, device, cq, NULL);
  deliver(&link, 0); /* into RTR */
  struct ibv_async_event event;
  while (!take_async(device, &event)) {
  }
  REQUIRE(event.event_type == IBV_EVENT_COMM_EST && event.element.qp == link.far_qp);
  struct destruction it = {.qp = link.far_qp};
  const pthread_t thread = begin(&it);
  ibv_ack_async_event(&event);
  REQUIRE(pthread_join(thread, NULL) == 0);
  REQUIRE(ibv_destroy_qp(link.near_qp) == 0);
  REQUIRE(ibv_destroy_cq(link.sent) == 0);
  REQUIRE(ibv_destroy_cq(cq) == 0);
}

/* A thread has read the event, and libibverbs in it has not used it yet: the CQ has to be there
   still. Here the record is read past libibverbs, which is what it does first, too. */
static void read_only(struct device* device) {
  struct ibv_comp_channel* channel = ibv_create_comp_channel(device->context);
  REQUIRE(channel != NULL);
  struct link link;
  struct ibv_cq* cq = ibv_create_cq(device->context, kQueueDepth, NULL, channel, 0);
  REQUIRE(cq != NULL);
  make_link(&link, device, cq, NULL);
  ready_to_send(link.far_qp);
  REQUIRE(ibv_req_notify_cq(cq, 0) == 0);
  deliver(&link, 0);
  uint64_t named = 0;
  REQUIRE(read(channel->fd, &named, sizeof named) == sizeof named);
  REQUIRE(named == (uintptr_t)cq);
  close_link(&link);
  struct destruction it = {.cq = cq};
  const pthread_t thread = begin(&it);
  ibv_ack_cq_events(cq, 1);
  REQUIRE(pthread_join(thread, NULL) == 0);
  REQUIRE(ibv_destroy_comp_channel(channel) == 0);
}

struct reader {
  struct ibv_comp_channel* channel;
  struct ibv_cq* last; /* the event that ends it */
};

static void* read_events(void* argument) {
  const struct reader* reader = argument;
  struct ibv_cq* cq = NULL;
  void* cq_context = NULL;
  do {
    REQUIRE(ibv_get_cq_event(reader->channel, &cq, &cq_context) == 0);
    REQUIRE(cq_context == reader); /* as it would hardly be in a CQ that is no more */
    ibv_ack_cq_events(cq, 1);
  } while (cq != reader->last);
  return NULL;
}

/* CQs are destroyed as soon as they have raised an event, while a thread sleeps on their channel.
 */
static void races(struct device* device) {
  struct ibv_comp_channel* channel = ibv_create_comp_channel(device->context);
  REQUIRE(channel != NULL);
  struct reader reader = {channel, NULL};
  reader.last = ibv_create_cq(device->context, kQueueDepth, &reader, channel, 0);
  REQUIRE(reader.last != NULL);
  struct link last;
  make_link(&last, device, reader.last, NULL);
  ready_to_send(last.far_qp);
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, read_events, &reader) == 0);
  for (int i = 0; i < kRaces; ++i) {
    struct link link;
    struct ibv_cq* cq = ibv_create_cq(device->context, kQueueDepth, &reader, channel, 0);
    REQUIRE(cq != NULL);
    make_link(&link, device, cq, NULL);
    ready_to_send(link.far_qp);
    REQUIRE(ibv_req_notify_cq(cq, 0) == 0);
    post_receive(&link, 0);
    set_error(link.far_qp); /* raises it: flushed */
    REQUIRE(ibv_destroy_qp(link.far_qp) == 0);
    REQUIRE(ibv_destroy_cq(cq) == 0);
    REQUIRE(ibv_destroy_qp(link.near_qp) == 0);
    REQUIRE(ibv_destroy_cq(link.sent) == 0);
  }
  REQUIRE(ibv_req_notify_cq(reader.last, 0) == 0);
  deliver(&last, 0);
  REQUIRE(pthread_join(thread, NULL) == 0);
  close_link(&last);
  REQUIRE(ibv_destroy_cq(reader.last) == 0);
  REQUIRE(ibv_destroy_comp_channel(channel) == 0);
}

void run_destruction_cases(struct device* device) {
  unacknowledged(device);
  unacknowledged_async(device);
  read_only(device);
  races(device);
}
