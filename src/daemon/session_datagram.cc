#include "daemon/session.h"
#include "daemon/session_reply.h"

/// Address handles, multicast groups and raw packet flows.

namespace flexins::daemon {

Session::Answer Session::create_ah(const protocol::CreateAhRequest& request) {
  auto ah = environment_.worker->call([&](engine::Engine& engine) {
    return engine.create_ah(context_, base::PdId{request.pd}, request.address);
  });
  if (!ah) return ah.error();
  if (environment_.on_destination) environment_.on_destination(request.address);
  protocol::CreateAhReply reply{};
  reply.ah = ah->value;
  return make_reply(reply);
}

Session::Answer Session::destroy_ah(const protocol::DestroyAhRequest& request) {
  auto gone = environment_.worker->call(
      [&](engine::Engine& engine) { return engine.destroy_ah(context_, base::AhId{request.ah}); });
  if (!gone) return gone.error();
  return done();
}

Session::Answer Session::attach_multicast(const protocol::AttachMulticastRequest& request) {
  auto joined = environment_.worker->call([&](engine::Engine& engine) {
    return engine.attach_multicast(context_, base::Qpn{request.qpn}, request.group);
  });
  if (!joined) return joined.error();
  return done();
}

Session::Answer Session::create_flow(const protocol::CreateFlowRequest& request) {
  auto flow = environment_.worker->call([&](engine::Engine& engine) {
    return engine.create_flow(context_, base::Qpn{request.qpn}, request.rule,
                              base::CountersId{request.counters});
  });
  if (!flow) return flow.error();
  protocol::CreateFlowReply reply{};
  reply.flow = flow->value;
  return make_reply(reply);
}

Session::Answer Session::destroy_flow(const protocol::DestroyFlowRequest& request) {
  auto gone = environment_.worker->call([&](engine::Engine& engine) {
    return engine.destroy_flow(context_, base::Qpn{request.qpn}, base::FlowId{request.flow});
  });
  if (!gone) return gone.error();
  return done();
}

Session::Answer Session::create_counters(const protocol::CreateCountersRequest&) {
  if (auto room =
          check_limit("sets of flow counters", use_.counters, environment_.limits.counters_max);
      !room) {
    return room.error();
  }
  auto counters = environment_.worker->call(
      [&](engine::Engine& engine) { return engine.create_counters(context_); });
  if (!counters) return counters.error();
  count(&TenantUse::counters);
  protocol::CreateCountersReply reply{};
  reply.counters = counters->value;
  return make_reply(reply);
}

Session::Answer Session::read_counters(const protocol::ReadCountersRequest& request) {
  auto counts = environment_.worker->call([&](engine::Engine& engine) {
    return engine.read_counters(context_, base::CountersId{request.counters});
  });
  if (!counts) return counts.error();
  protocol::ReadCountersReply reply{};
  reply.counts = *counts;
  return make_reply(reply);
}

Session::Answer Session::destroy_counters(const protocol::DestroyCountersRequest& request) {
  auto gone = environment_.worker->call([&](engine::Engine& engine) {
    return engine.destroy_counters(context_, base::CountersId{request.counters});
  });
  if (!gone) return gone.error();
  discount(&TenantUse::counters);
  return done();
}

Session::Answer Session::detach_multicast(const protocol::DetachMulticastRequest& request) {
  auto left = environment_.worker->call([&](engine::Engine& engine) {
    return engine.detach_multicast(context_, base::Qpn{request.qpn}, request.group);
  });
  if (!left) return left.error();
  return done();
}

}  // namespace flexins::daemon
