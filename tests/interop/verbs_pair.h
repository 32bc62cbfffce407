#pragma once

#include <infiniband/verbs.h>
#include <stddef.h>
#include <stdint.h>

/* Two ends that move data over any RDMA device and check every byte; plain libibverbs, so that one
 * and the same program runs on the kernel's Soft-RoCE and on FlexiNS. */

enum { kQpsMax = 2, kGrhBytes = 40, kGuardBytes = 64, kQkey = 0x11111111 };

enum Operation { kSend, kSendImmediate, kWrite, kWriteImmediate, kRead, kFetchAdd, kCompareSwap };

enum OrderFlag {
  kShared = 1,      /* the server's QPs share one receive queue */
  kLateReceive = 2, /* the server posts its receives late: RNR NAKs */
  kLossy = 4,       /* of an unreliable service not everything need arrive */
};

struct Info {
  uint32_t qpn;
  uint32_t psn;
  uint32_t rkey;
  uint32_t reserved;
  uint64_t address;
  uint8_t gid[16];
};

/* What the client asks for; travels over TCP. */
struct Order {
  uint32_t type; /* enum ibv_qp_type */
  uint32_t operation;
  uint32_t size;  /* bytes of a message */
  uint32_t count; /* messages */
  uint32_t mtu;   /* bytes */
  uint32_t flags;
  struct Info client[kQpsMax];
};

struct Verdict {
  uint32_t problems;
  uint32_t received;
  char text[120]; /* the first problem */
};

/* An opened device with what every case needs. */
struct Device {
  struct ibv_context* context;
  struct ibv_pd* pd;
  union ibv_gid gid;
  int gid_index;
  double timeout_s;
};

/* One side of one case. */
struct End {
  const struct Device* device;
  struct Order order;
  int is_server;
  uint32_t qps;
  uint32_t stride; /* bytes from one message's place to the next */
  struct ibv_cq* cq;
  struct ibv_srq* srq;
  struct ibv_qp* qp[kQpsMax];
  struct ibv_ah* ah[kQpsMax];
  uint8_t* memory; /* `count` places for messages, then as many to receive into */
  struct ibv_mr* region;
  struct Info ours[kQpsMax];
  struct Verdict verdict;
};

/* Print the message (as printf; with errno's text) and exit with status 1. */
void die(const char* format, ...) __attribute__((format(printf, 1, 2), noreturn));
/* Counts a problem and keeps the text of the first. */
void problem(struct End* end, const char* format, ...) __attribute__((format(printf, 2, 3)));
double seconds_now(void);

/* `name` NULL: the first device. `family`: of the GID, AF_INET or AF_INET6. */
void open_device(struct Device* device, const char* name, int family);
/* Creates queues, memory and QPs (in INIT). */
void create_end(struct End* end);
void connect_end(struct End* end, const struct Info* theirs);
void destroy_end(struct End* end);
/* The next completion; dies when none comes in time or it has an error. */
struct ibv_wc next_completion(struct End* end);

uint8_t* message_at(const struct End* end, uint32_t k);
uint8_t* receive_at(const struct End* end, uint32_t k);
int takes_receive(uint32_t operation);
int is_atomic(uint32_t operation);
void fill_message(uint8_t* at, uint32_t k, uint32_t size);
/* Complains where message `k` of the case is not at `at`, or something lies behind it. */
void check_message(struct End* end, const uint8_t* at, uint32_t k);

/* verbs_pair_client.c, verbs_pair_server.c: play one case after the QPs are connected. */
void post_receives(struct End* end);
void client_plays(struct End* end, const struct Info* server);
void server_checks(struct End* end);
