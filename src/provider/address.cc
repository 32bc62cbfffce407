#include "provider/address.h"

#include <errno.h>

#include <cstring>
#include <memory>

#include "protocol/messages_datagram.h"
#include "provider/context.h"
#include "provider/guard.h"

// Addresses of peers, and address handles: what a program posts datagrams with is known to the
// engine by a number.

namespace flexins::provider {

void copy_address(const ibv_ah_attr& from, base::AddressVector& to) {
  std::memcpy(to.destination_gid.data(), from.grh.dgid.raw, to.destination_gid.size());
  to.source_gid_index = from.grh.sgid_index;
  to.traffic_class = from.grh.traffic_class;
  to.hop_limit = from.grh.hop_limit;
  to.flow_label = from.grh.flow_label;
  to.service_level = from.sl;
  to.is_global = from.is_global;
  to.static_rate = from.static_rate;
  to.port_number = from.port_num;
}

void copy_address(const base::AddressVector& from, ibv_ah_attr& to) {
  std::memcpy(to.grh.dgid.raw, from.destination_gid.data(), from.destination_gid.size());
  to.grh.sgid_index = from.source_gid_index;
  to.grh.traffic_class = from.traffic_class;
  to.grh.hop_limit = from.hop_limit;
  to.grh.flow_label = from.flow_label;
  to.sl = from.service_level;
  to.is_global = from.is_global;
  to.static_rate = from.static_rate;
  to.port_num = from.port_number;
}

ibv_ah* create_ah(ibv_pd* pd, ibv_ah_attr* attributes) {
  return null_on_error([&]() -> base::Result<ibv_ah*> {
    auto ah = std::make_unique<ibv_ah>();
    protocol::CreateAhRequest request{};
    request.pd = pd->handle;
    copy_address(*attributes, request.address);
    protocol::CreateAhReply reply{};
    if (const int error = Context::of(pd->context).call(request, reply); error != 0) {
      return base::Error{error, ""};
    }
    ah->context = pd->context;
    ah->pd = pd;
    ah->handle = reply.ah;
    return ah.release();
  });
}

int destroy_ah(ibv_ah* ah) {
  return errno_on_error([&] {
    protocol::DestroyAhRequest request{};
    request.ah = ah->handle;
    if (const int error = Context::of(ah->context).call_to_free(request); error != 0) return error;
    delete ah;
    return 0;
  });
}

namespace {

template <typename Request>
int change_membership(ibv_qp* qp, const ibv_gid* group) {
  return errno_on_error([&] {
    Request request{};
    request.qpn = qp->qp_num;
    std::memcpy(request.group.data(), group->raw, request.group.size());
    protocol::EmptyReply reply;
    return Context::of(qp->context).call(request, reply);
  });
}

}  // namespace

int attach_multicast(ibv_qp* qp, const ibv_gid* group, uint16_t) {
  return change_membership<protocol::AttachMulticastRequest>(qp, group);
}

int detach_multicast(ibv_qp* qp, const ibv_gid* group, uint16_t) {
  return change_membership<protocol::DetachMulticastRequest>(qp, group);
}

}  // namespace flexins::provider
