#pragma once

/* What the cases share: a device, queue pairs connected to each other on it, and messages. Anything
   that goes wrong ends the program with a line that says what; what never comes ends it by alarm.
 */

#include <infiniband/verbs.h>
#include <stdbool.h>
#include <stdint.h>

enum { kMessageBytes = 64, kQueueDepth = 128 };

#define REQUIRE(condition) require((condition), #condition, __FILE__, __LINE__)
void require(bool condition, const char* text, const char* file, int line);

struct device {
  struct ibv_context* context;
  struct ibv_pd* pd;
  struct ibv_mr* mr; /* a page; all messages are its first bytes, and are received behind them */
  union ibv_gid gid;
  char* page;
};

/* Two queue pairs of one device that are connected to each other; messages go from `near` to `far`.
 */
struct link {
  struct device* device;
  struct ibv_cq* sent;     /* completions of near's sends; its own */
  struct ibv_cq* received; /* completions of far's receives; the maker's */
  struct ibv_qp* near_qp;
  struct ibv_qp* far_qp;
};

void open_device(struct device* device);
void close_device(struct device* device);

/* Far's receives complete into `received`, and come from `srq` if there is one. Far is left in RTR.
 */
void make_link(struct link* link, struct device* device, struct ibv_cq* received,
               struct ibv_srq* srq);
void close_link(struct link* link); /* not `received` */
void ready_to_send(struct ibv_qp* qp);
void set_error(struct ibv_qp* qp);

void post_receive(struct link* link, uint64_t wr_id);
void post_srq_receive(struct device* device, struct ibv_srq* srq);
void post_message(struct link* link, uint64_t wr_id, unsigned flags);
void post_write(struct link* link, uint32_t rkey);
/* Waits for the next completion. */
struct ibv_wc next_completion(struct ibv_cq* cq);
/* A receive, a message into it, and the sender's completion taken; the receiver's is left. */
void deliver(struct link* link, unsigned flags);
/* When it returns, the engine has raised every event of what had completed before. Uses a link that
   is for nothing else. */
void settle(struct link* other);

void set_nonblocking(int fd);
int watch_edges(int fd); /* a new epoll descriptor */
void await_edge(int epoll);
/* Without waiting: the CQ that the next event names, acknowledged; null where there is none. */
struct ibv_cq* take_event(struct ibv_comp_channel* channel);
/* Without waiting, not acknowledged; false where there is none. */
bool take_async(struct device* device, struct ibv_async_event* event);

void run_completion_cases(struct device* device);
void run_destruction_cases(struct device* device);
void run_async_cases(struct device* device);
