#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <random>

#include "common/peer.h"

namespace example {
namespace {

constexpr uint8_t kPort = 1;

/// What one end must know of the other before it can send.
struct Address {
  ibv_gid gid;
  uint32_t qpn;
  uint32_t psn;
  uint32_t mtu;
  uint32_t reads_max;
};

bool is_ipv4(const ibv_gid& gid) {
  static constexpr uint8_t kPrefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return memcmp(gid.raw, kPrefix, sizeof(kPrefix)) == 0;
}

}  // namespace

Connection::Connection(const Settings& settings, const Socket& socket) : settings_(settings) {
  open_device();
  choose_gid();
  create_queues();
  connect(socket);
}

// 1. A device by its name, and what its port is like.
void Connection::open_device() {
  int count = 0;
  ibv_device** devices = ibv_get_device_list(&count);
  if (devices == nullptr) fail("ibv_get_device_list: %s", strerror(errno));
  for (int i = 0; i < count && context_ == nullptr; ++i) {
    if (settings_.device.empty() || settings_.device == ibv_get_device_name(devices[i])) {
      context_ = ibv_open_device(devices[i]);
    }
  }
  ibv_free_device_list(devices);
  if (context_ == nullptr) {
    fail("no RDMA device%s%s; was this program started by `flexins run`?",
         settings_.device.empty() ? "" : " named ", settings_.device.c_str());
  }
  if (ibv_query_device(context_, &limits_) != 0) fail("ibv_query_device: %s", strerror(errno));
  if (ibv_query_port(context_, kPort, &port_) != 0) fail("ibv_query_port: %s", strerror(errno));
  if (port_.state != IBV_PORT_ACTIVE) fail("the port is %s", ibv_port_state_str(port_.state));
}

// 2. The address to send from: with RoCE, a GID is an IP address of the port.
void Connection::choose_gid() {
  gid_index_ = std::max(settings_.gid_index, 0);
  for (int i = 0; settings_.gid_index < 0 && i < port_.gid_tbl_len; ++i) {
    if (ibv_query_gid(context_, kPort, i, &gid_) == 0 && is_ipv4(gid_)) {
      gid_index_ = i;
      break;
    }
  }
  if (ibv_query_gid(context_, kPort, gid_index_, &gid_) != 0) fail("no GID %d", gid_index_);
}

// 3. A completion queue for everything, and a queue pair that reports to it.
void Connection::create_queues() {
  pd_ = ibv_alloc_pd(context_);
  if (pd_ == nullptr) fail("ibv_alloc_pd: %s", strerror(errno));
  if (settings_.use_events) {
    channel_ = ibv_create_comp_channel(context_);
    if (channel_ == nullptr) fail("ibv_create_comp_channel: %s", strerror(errno));
  }
  cq_ = ibv_create_cq(context_, static_cast<int>(2 * settings_.depth), nullptr, channel_, 0);
  if (cq_ == nullptr) fail("ibv_create_cq: %s", strerror(errno));
  if (channel_ != nullptr && ibv_req_notify_cq(cq_, 0) != 0) fail("ibv_req_notify_cq");

  sge_max_ = std::min(settings_.sge_max, static_cast<uint32_t>(limits_.max_sge));
  if (settings_.use_srq) {
    ibv_srq_init_attr shared = {};
    shared.attr.max_wr = settings_.depth;
    shared.attr.max_sge = sge_max_;
    srq_ = ibv_create_srq(pd_, &shared);
    if (srq_ == nullptr) fail("ibv_create_srq: %s", strerror(errno));
  }
  ibv_qp_init_attr attributes = {};
  attributes.qp_type = settings_.unreliable ? IBV_QPT_UC : IBV_QPT_RC;
  attributes.srq = srq_;
  attributes.send_cq = cq_;
  attributes.recv_cq = cq_;
  attributes.cap.max_send_wr = settings_.depth;
  attributes.cap.max_recv_wr = settings_.depth;
  attributes.cap.max_send_sge = sge_max_;
  attributes.cap.max_recv_sge = sge_max_;
  attributes.cap.max_inline_data = settings_.inline_max;
  qp_ = ibv_create_qp(pd_, &attributes);
  if (qp_ == nullptr) fail("ibv_create_qp: %s", strerror(errno));
  inline_max_ = attributes.cap.max_inline_data;
}

// 4. Tell the other program our address, learn its, and take the queue pair through its states:
// INIT (may take receives), RTR (answers the peer), RTS (sends).
void Connection::connect(const Socket& socket) {
  Address ours = {};
  ours.gid = gid_;
  ours.qpn = qp_->qp_num;
  ours.psn = std::random_device{}() & 0xffffff;
  ours.mtu = port_.active_mtu;
  ours.reads_max = static_cast<uint32_t>(std::min(limits_.max_qp_rd_atom, 16));
  const Address theirs = socket.exchange(ours);

  ibv_qp_attr attributes = {};
  attributes.qp_state = IBV_QPS_INIT;
  attributes.port_num = kPort;
  attributes.qp_access_flags =
      IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC;
  int status = ibv_modify_qp(qp_, &attributes,
                             IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
  if (status != 0) fail("cannot reach INIT: %s", strerror(status));

  attributes = {};
  attributes.qp_state = IBV_QPS_RTR;
  attributes.path_mtu = static_cast<ibv_mtu>(std::min(ours.mtu, theirs.mtu));
  attributes.dest_qp_num = theirs.qpn;
  attributes.rq_psn = theirs.psn;
  attributes.max_dest_rd_atomic = static_cast<uint8_t>(ours.reads_max);
  attributes.min_rnr_timer = 12;  // 0.64 ms
  attributes.ah_attr.is_global = 1;
  attributes.ah_attr.port_num = kPort;
  attributes.ah_attr.grh.dgid = theirs.gid;
  attributes.ah_attr.grh.sgid_index = static_cast<uint8_t>(gid_index_);
  attributes.ah_attr.grh.hop_limit = 64;
  int mask = IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
  if (!settings_.unreliable) mask |= IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
  status = ibv_modify_qp(qp_, &attributes, mask);
  if (status != 0) fail("cannot reach RTR: %s", strerror(status));

  attributes = {};
  attributes.qp_state = IBV_QPS_RTS;
  attributes.sq_psn = ours.psn;
  attributes.timeout = 14;  // 67 ms
  attributes.retry_cnt = 7;
  attributes.rnr_retry = 7;  // without end
  attributes.max_rd_atomic = static_cast<uint8_t>(std::min(ours.reads_max, theirs.reads_max));
  mask = IBV_QP_STATE | IBV_QP_SQ_PSN;
  if (!settings_.unreliable) {
    mask |= IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC;
  }
  status = ibv_modify_qp(qp_, &attributes, mask);
  if (status != 0) fail("cannot reach RTS: %s", strerror(status));

  // Nobody sends before the other end can answer.
  (void)socket.exchange('r');
}

Connection::~Connection() {
  // Each object only after those that use it.
  if (unacknowledged_events_ > 0) ibv_ack_cq_events(cq_, unacknowledged_events_);
  ibv_destroy_qp(qp_);
  if (srq_ != nullptr) ibv_destroy_srq(srq_);
  ibv_destroy_cq(cq_);
  if (channel_ != nullptr) ibv_destroy_comp_channel(channel_);
  for (ibv_mr* region : regions_) ibv_dereg_mr(region);
  ibv_dealloc_pd(pd_);
  ibv_close_device(context_);
}

ibv_mr* Connection::share(void* address, size_t length) {
  ibv_mr* region = ibv_reg_mr(pd_, address, length,
                              IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ |
                                  IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC);
  if (region == nullptr) fail("ibv_reg_mr of %zu bytes: %s", length, strerror(errno));
  regions_.push_back(region);
  return region;
}

void Connection::post_send(ibv_send_wr* chain) {
  ibv_send_wr* refused = nullptr;
  const int status = ibv_post_send(qp_, chain, &refused);
  if (status != 0) fail("ibv_post_send: %s", strerror(status));
}

void Connection::post_receive(ibv_recv_wr* chain) {
  ibv_recv_wr* refused = nullptr;
  const int status = srq_ != nullptr ? ibv_post_srq_recv(srq_, chain, &refused)
                                     : ibv_post_recv(qp_, chain, &refused);
  if (status != 0) fail("ibv_post_recv: %s", strerror(status));
}

ibv_wc Connection::wait() {
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + std::chrono::duration<double>(settings_.timeout_seconds);
  for (;;) {
    ibv_wc completion = {};
    const int count = ibv_poll_cq(cq_, 1, &completion);
    if (count < 0) fail("ibv_poll_cq");
    if (count > 0) {
      if (completion.status != IBV_WC_SUCCESS) {
        fail("work request %llu ended with '%s'", static_cast<unsigned long long>(completion.wr_id),
             ibv_wc_status_str(completion.status));
      }
      return completion;
    }
    if (Clock::now() > deadline) fail("no completion for %.0f s", settings_.timeout_seconds);
    if (channel_ == nullptr) continue;

    // Sleep until there is an event, ask for the next one, and only then look again: a completion
    // that came in between would otherwise be missed.
    pollfd readable = {channel_->fd, POLLIN, 0};
    if (poll(&readable, 1, 1000) != 1) continue;
    ibv_cq* cq = nullptr;
    void* cq_context = nullptr;
    if (ibv_get_cq_event(channel_, &cq, &cq_context) != 0) fail("ibv_get_cq_event");
    ++unacknowledged_events_;
    if (ibv_req_notify_cq(cq_, 0) != 0) fail("ibv_req_notify_cq");
  }
}

}  // namespace example
