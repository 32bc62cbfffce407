#include "daemon/session.h"
#include "daemon/session_reply.h"

/// Address handles.

namespace flexins::daemon {

Session::Answer Session::create_ah(const protocol::CreateAhRequest& request) {
  auto ah = environment_.worker->call([&](engine::Engine& engine) {
    return engine.create_ah(context_, base::PdId{request.pd}, request.address);
  });
  if (!ah) return ah.error();
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

}  // namespace flexins::daemon
