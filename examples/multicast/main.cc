#include <arpa/inet.h>
#include <getopt.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "common/peer.h"

/// Two programs in one multicast group, each with two datagram QPs; see ../README.md. Everything
/// that one QP sends must reach the three others once, and itself never; then each answers the
/// other's first message, and the answer's address is taken from its completion.

namespace {

constexpr int kMembers = 2;
constexpr uint32_t kMessages = 16;
constexpr uint32_t kGroupQpn = 0xff'ffff;
constexpr uint32_t kQkey = 0x5eed;
constexpr size_t kGrh = 40;

struct Message {
  uint32_t sender;  ///< 0: server, 1: client
  uint32_t number;  ///< kMessages: the answer
};
struct Slot {
  char route[kGrh];
  Message message;
};

struct Options {
  std::string host, device = "flexins0", group = "239.77.0.1";
  uint16_t tcp_port = 18515;
  int gid_index = 0;
};

Options parse(int argc, char** argv) {
  static const option kOptions[] = {{"device", required_argument, nullptr, 'd'},
                                    {"gid", required_argument, nullptr, 'x'},
                                    {"port", required_argument, nullptr, 'p'},
                                    {"group", required_argument, nullptr, 'g'},
                                    {nullptr, 0, nullptr, 0}};
  Options options;
  for (int found = 0; (found = getopt_long(argc, argv, "", kOptions, nullptr)) != -1;) {
    switch (found) {
      case 'd': options.device = optarg; break;
      case 'x': options.gid_index = atoi(optarg); break;
      case 'p': options.tcp_port = static_cast<uint16_t>(atoi(optarg)); break;
      case 'g': options.group = optarg; break;
      default:
        example::fail("usage: multicast [--device D] [--gid N] [--port P] [--group IP] [HOST]");
    }
  }
  if (optind < argc) options.host = argv[optind];
  return options;
}

ibv_gid gid_of(const std::string& address) {
  ibv_gid gid = {};
  if (inet_pton(AF_INET6, address.c_str(), gid.raw) == 1) return gid;
  gid.raw[10] = gid.raw[11] = 0xff;
  if (inet_pton(AF_INET, address.c_str(), gid.raw + 12) != 1) {
    example::fail("%s is no IP address", address.c_str());
  }
  return gid;
}

class Player {
 public:
  explicit Player(const Options& options) : options_(options), group_(gid_of(options.group)) {
    int count = 0;
    ibv_device** devices = ibv_get_device_list(&count);
    for (int i = 0; i < count; ++i) {
      if (options.device == ibv_get_device_name(devices[i])) context_ = ibv_open_device(devices[i]);
    }
    if (context_ == nullptr) example::fail("no RDMA device %s", options.device.c_str());
    pd_ = ibv_alloc_pd(context_);
    cq_ = ibv_create_cq(context_, 512, nullptr, nullptr, 0);
    constexpr int kAccess = IBV_ACCESS_LOCAL_WRITE;
    memory_ = ibv_reg_mr(pd_, slots_.data(), slots_.size() * sizeof(Slot), kAccess);
    if (pd_ == nullptr || cq_ == nullptr || memory_ == nullptr) example::fail("no PD, CQ or MR");
    for (int i = 0; i < kMembers; ++i) join(i);
    to_group_ = handle_of(group_);
  }

  [[nodiscard]] ibv_gid own_gid() const {
    ibv_gid gid;
    if (ibv_query_gid(context_, 1, options_.gid_index, &gid) != 0) example::fail("no such GID");
    return gid;
  }
  void meet(const ibv_gid& peer) { to_peer_ = handle_of(peer); }

  void say(uint32_t sender) {
    for (uint32_t number = 0; number < kMessages; ++number) {
      send({sender, number}, to_group_, kGroupQpn);
    }
  }

  /// Takes completions until all that is due has come.
  void hear(uint32_t self) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!complete(self)) {
      ibv_wc wc;
      if (ibv_poll_cq(cq_, 1, &wc) > 0) take(wc, self);
      if (std::chrono::steady_clock::now() > end) fail_incomplete(self);
    }
  }

  void leave() {
    for (ibv_qp* qp : qps_) {
      if (ibv_detach_mcast(qp, &group_, 0) != 0) example::fail("cannot leave the group");
      if (ibv_destroy_qp(qp) != 0) example::fail("cannot destroy a QP that left");
    }
    for (ibv_ah* handle : {to_group_, to_peer_, from_answer_}) {
      if (ibv_destroy_ah(handle) != 0) example::fail("cannot destroy an address handle");
    }
  }

 private:
  [[nodiscard]] ibv_ah* handle_of(const ibv_gid& gid) const {
    ibv_ah_attr address = {};
    address.is_global = 1;
    address.port_num = 1;
    address.grh.dgid = gid;
    address.grh.sgid_index = static_cast<uint8_t>(options_.gid_index);
    address.grh.hop_limit = 8;
    ibv_ah* handle = ibv_create_ah(pd_, &address);
    if (handle == nullptr) example::fail("no address handle");
    return handle;
  }

  void join(int index) {
    ibv_qp_init_attr wanted = {};
    wanted.send_cq = wanted.recv_cq = cq_;
    wanted.cap = {64, 64, 1, 1, sizeof(Message)};
    wanted.qp_type = IBV_QPT_UD;
    ibv_qp* qp = qps_[index] = ibv_create_qp(pd_, &wanted);
    if (qp == nullptr) example::fail("no datagram QP");
    ibv_qp_attr to = {};
    to.qp_state = IBV_QPS_INIT;
    to.port_num = 1;
    to.qkey = kQkey;
    int bad = ibv_modify_qp(qp, &to, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_QKEY);
    for (uint32_t i = 0; i < 64; ++i) {
      const uint64_t slot = static_cast<uint64_t>(index) * 64 + i;
      ibv_sge sge = {reinterpret_cast<uint64_t>(&slots_[slot]), sizeof(Slot), memory_->lkey};
      ibv_recv_wr wr = {slot, nullptr, &sge, 1};
      ibv_recv_wr* rest = nullptr;
      bad |= ibv_post_recv(qp, &wr, &rest);
    }
    to.qp_state = IBV_QPS_RTR;
    bad |= ibv_modify_qp(qp, &to, IBV_QP_STATE);
    to.qp_state = IBV_QPS_RTS;
    bad |= ibv_modify_qp(qp, &to, IBV_QP_STATE | IBV_QP_SQ_PSN);
    if (bad != 0) example::fail("cannot ready a datagram QP");
    if (const int error = ibv_attach_mcast(qp, &group_, 0); error != 0) {
      example::fail("cannot join %s: %s", options_.group.c_str(), strerror(error));
    }
  }

  void send(Message message, ibv_ah* to, uint32_t qpn) {
    ibv_sge sge = {reinterpret_cast<uint64_t>(&message), sizeof message, 0};
    ibv_send_wr wr = {};
    wr.sg_list = &sge;
    wr.num_sge = 1;
    wr.opcode = IBV_WR_SEND;
    wr.send_flags = IBV_SEND_INLINE;
    wr.wr.ud = {to, qpn, kQkey};
    ibv_send_wr* rest = nullptr;
    if (ibv_post_send(qps_[0], &wr, &rest) != 0) example::fail("cannot send");
  }

  void take(ibv_wc& wc, uint32_t self) {
    if (wc.status != IBV_WC_SUCCESS) example::fail("%s", ibv_wc_status_str(wc.status));
    if (wc.opcode != IBV_WC_RECV) return;
    const int index = wc.qp_num == qps_[0]->qp_num ? 0 : 1;
    Slot& slot = slots_[wc.wr_id];
    const Message& message = slot.message;
    if (wc.byte_len != sizeof(Slot) || message.sender > 1 || message.number > kMessages) {
      example::fail("a message of %u bytes that nobody sent", wc.byte_len);
    }
    if (message.number == kMessages) {
      ++answers_;
      from_answer_ = ibv_create_ah_from_wc(pd_, &wc, reinterpret_cast<ibv_grh*>(slot.route), 1);
      if (from_answer_ == nullptr) example::fail("no address handle from a completion");
      return;
    }
    ++heard_[index][message.sender][message.number];
    if (message.sender != self && !answered_) {
      answered_ = true;
      send({self, kMessages}, to_peer_, wc.src_qp);
    }
  }

  [[nodiscard]] static uint32_t due(int index, uint32_t sender, uint32_t self) {
    return sender == self && index == 0 ? 0 : 1;
  }
  [[nodiscard]] bool complete(uint32_t self) const {
    for (int index = 0; index < kMembers; ++index) {
      for (uint32_t sender = 0; sender < 2; ++sender) {
        for (const uint32_t times : heard_[index][sender]) {
          if (times > due(index, sender, self)) example::fail("a message came twice");
          if (times < due(index, sender, self)) return false;
        }
      }
    }
    return answers_ == 1;
  }
  [[noreturn]] void fail_incomplete(uint32_t self) const {
    for (int index = 0; index < kMembers; ++index) {
      for (uint32_t sender = 0; sender < 2; ++sender) {
        uint32_t sum = 0;
        for (const uint32_t times : heard_[index][sender]) sum += times;
        printf("QP %d heard %u of %u messages of %s\n", index, sum,
               due(index, sender, self) * kMessages, sender == self ? "its own side" : "the peer");
      }
    }
    example::fail("not all has come in time (%u answers)", answers_);
  }

  const Options& options_;
  ibv_gid group_;
  std::vector<Slot> slots_ = std::vector<Slot>(size_t{kMembers} * 64);
  ibv_context* context_ = nullptr;
  ibv_pd* pd_ = nullptr;
  ibv_cq* cq_ = nullptr;
  ibv_mr* memory_ = nullptr;
  ibv_qp* qps_[kMembers] = {};
  ibv_ah* to_group_ = nullptr;
  ibv_ah* to_peer_ = nullptr;
  ibv_ah* from_answer_ = nullptr;
  bool answered_ = false;
  uint32_t answers_ = 0;
  uint32_t heard_[kMembers][2][kMessages] = {};
};

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  const uint32_t self = options.host.empty() ? 0 : 1;
  Player player(options);
  const example::Socket socket(options.host, options.tcp_port);
  player.meet(socket.exchange(player.own_gid()));  // both are in the group
  player.say(self);
  player.hear(self);
  (void)socket.exchange(self);  // nobody leaves before the other has heard all
  player.leave();
  printf("every message reached every other member once\n");
  return 0;
}
