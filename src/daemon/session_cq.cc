#include <cerrno>

#include "base/check.h"
#include "daemon/session.h"
#include "daemon/session_reply.h"
#include "daemon/worker_thread.h"
#include "pipe/layout.h"

/// Completion channels and completion queues.

namespace flexins::daemon {

namespace {

/// Steps of the worker that the resizing of a CQ may wait for.
constexpr int kStepsBeforeResize = 16;

}  // namespace

Session::Answer Session::create_channel(const protocol::CreateChannelRequest&) {
  if (auto room = check_limit("channels", use_.channels, environment_.limits.channels_max); !room) {
    return room.error();
  }
  auto pipe = EventPipe::create();
  if (!pipe) return pipe.error();
  auto channel = environment_.worker->call([&](engine::Engine& engine) {
    auto created = engine.create_channel(context_);
    if (created) events_->add_channel(*created, std::move(pipe->ours));
    return created;
  });
  if (!channel) return channel.error();
  count(&TenantUse::channels);
  protocol::CreateChannelReply reply{};
  reply.channel = channel->value;
  return make_reply(reply, std::move(pipe->read));
}

Session::Answer Session::destroy_channel(const protocol::DestroyChannelRequest& request) {
  const base::ChannelId channel{request.channel};
  base::UniqueFd ours;  // closed here, on the control thread
  auto gone = environment_.worker->call([&](engine::Engine& engine) {
    auto destroyed = engine.destroy_channel(context_, channel);
    if (destroyed) ours = events_->remove_channel(channel);
    return destroyed;
  });
  if (!gone) return gone.error();
  discount(&TenantUse::channels);
  return done();
}

Session::Answer Session::create_cq(const protocol::CreateCqRequest& request) {
  if (request.depth < 1 || request.depth > base::Limits::kMaxCqe) {
    return invalid("a CQ of " + std::to_string(request.depth) + " entries");
  }
  if (auto room = check_limit("CQs", use_.cqs, environment_.limits.cqs_max); !room) {
    return room.error();
  }
  const uint32_t depth = pipe::round_up_power_of_two(request.depth);
  auto ring = allocate_ring("flexins-completion", pipe::completion_ring_bytes(depth));
  if (!ring) return ring.error();
  auto cq = environment_.worker->call([&](engine::Engine& engine) {
    engine::CreateCq create;
    create.cookie = request.cookie;
    create.depth = depth;
    create.channel = base::ChannelId{request.channel};
    create.ignore_overrun = request.ignore_overrun != 0;
    return engine.create_cq(context_, create, {ring->data(), ring->bytes()});
  });
  if (!cq) {
    free_ring(std::move(ring).value());
    return cq.error();
  }
  count(&TenantUse::cqs);
  protocol::CreateCqReply reply{};
  reply.cq = cq->value;
  reply.depth = depth;
  base::UniqueFd ring_fd = ring->take_fd();
  completion_rings_.emplace(*cq, std::move(ring).value());
  return make_reply(reply, std::move(ring_fd));
}

Session::Answer Session::resize_cq(const protocol::ResizeCqRequest& request) {
  if (request.depth < 1 || request.depth > base::Limits::kMaxCqe ||
      request.wanted > request.depth) {
    return invalid("a CQ of " + std::to_string(request.depth) + " entries");
  }
  const auto current = completion_rings_.find(base::CqId{request.cq});
  if (current == completion_rings_.end()) return base::Error{ENOENT, "no such completion queue"};
  const uint32_t depth = pipe::round_up_power_of_two(request.depth);
  auto ring = allocate_ring("flexins-completion", pipe::completion_ring_bytes(depth));
  if (!ring) return ring.error();
  auto resized = environment_.worker->call([&](engine::Engine& engine) {
    // Programs know of what they have posted: let it complete first where that takes no peer, so
    // that whether the completions fit does not depend on who was quicker.
    for (int i = 0; i < kStepsBeforeResize && engine.step(monotonic_now()); ++i) {
    }
    return engine.resize_cq(context_, current->first, depth, request.wanted,
                            {ring->data(), ring->bytes()});
  });
  if (!resized) {
    free_ring(std::move(ring).value());
    return resized.error();
  }
  protocol::ResizeCqReply reply{};
  reply.depth = depth;
  base::UniqueFd ring_fd = ring->take_fd();
  // What is left in `ring` is the old one, which nobody of ours writes to any more.
  std::swap(current->second, *ring);
  free_ring(std::move(ring).value());
  return make_reply(reply, std::move(ring_fd));
}

Session::Answer Session::modify_cq(const protocol::ModifyCqRequest& request) {
  auto modified = environment_.worker->call([&](engine::Engine& engine) {
    return engine.moderate_cq(context_, base::CqId{request.cq}, request.count,
                              request.period_us * base::kMicrosecond);
  });
  if (!modified) return modified.error();
  return done();
}

Session::Answer Session::destroy_cq(const protocol::DestroyCqRequest& request) {
  const base::CqId cq{request.cq};
  auto gone = environment_.worker->call(
      [&](engine::Engine& engine) { return engine.destroy_cq(context_, cq); });
  if (!gone) return gone.error();
  const auto ring = completion_rings_.find(cq);
  FLEXINS_CHECK(ring != completion_rings_.end());
  free_ring(std::move(ring->second));
  completion_rings_.erase(ring);
  discount(&TenantUse::cqs);
  return destroyed(*gone);
}

}  // namespace flexins::daemon
