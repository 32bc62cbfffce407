#include "base/check.h"
#include "daemon/session.h"
#include "daemon/session_reply.h"
#include "pipe/layout.h"

/// Shared receive queues.

namespace flexins::daemon {

using base::Limits;

Session::Answer Session::create_srq(const protocol::CreateSrqRequest& request) {
  if (request.max_wr < 1 || request.max_wr > Limits::kMaxSrqWr ||
      request.max_sge > Limits::kMaxSge) {
    return invalid("an SRQ of " + std::to_string(request.max_wr) + " work requests with " +
                   std::to_string(request.max_sge) + " elements");
  }
  if (auto room = check_limit("SRQs", use_.srqs, environment_.limits.srqs_max); !room) {
    return room.error();
  }
  const uint32_t depth = pipe::round_up_power_of_two(request.max_wr);
  auto ring = allocate_ring("flexins-srq", pipe::receive_ring_bytes(depth, request.max_sge));
  if (!ring) return ring.error();
  auto srq = environment_.worker->call([&](engine::Engine& engine) {
    engine::CreateSrq create;
    create.pd = base::PdId{request.pd};
    create.cookie = request.cookie;
    create.max_wr = request.max_wr;
    create.max_sge = request.max_sge;
    create.xrcd = base::XrcdId{request.xrcd};
    create.cq = base::CqId{request.cq};
    return engine.create_srq(context_, create, {ring->data(), ring->bytes()});
  });
  if (!srq) {
    free_ring(std::move(ring).value());
    return srq.error();
  }
  count(&TenantUse::srqs);
  protocol::CreateSrqReply reply{};
  reply.srq = srq->value;
  reply.depth = depth;
  base::UniqueFd ring_fd = ring->take_fd();
  shared_rings_.emplace(*srq, SharedRing{std::move(ring).value(), request.max_sge});
  return make_reply(reply, std::move(ring_fd));
}

Session::Answer Session::modify_srq(const protocol::ModifySrqRequest& request) {
  auto armed = environment_.worker->call([&](engine::Engine& engine) {
    return engine.arm_srq(context_, base::Srqn{request.srq}, request.limit);
  });
  if (!armed) return armed.error();
  return done();
}

Session::Answer Session::resize_srq(const protocol::ResizeSrqRequest& request) {
  if (request.max_wr < 1 || request.max_wr > Limits::kMaxSrqWr) {
    return invalid("an SRQ of " + std::to_string(request.max_wr) + " work requests");
  }
  const auto current = shared_rings_.find(base::Srqn{request.srq});
  if (current == shared_rings_.end()) return base::Error{ENOENT, "no such SRQ"};
  const uint32_t depth = pipe::round_up_power_of_two(request.max_wr);
  auto ring =
      allocate_ring("flexins-srq", pipe::receive_ring_bytes(depth, current->second.max_sge));
  if (!ring) return ring.error();
  auto resized = environment_.worker->call([&](engine::Engine& engine) {
    return engine.resize_srq(context_, current->first, request.max_wr,
                             {ring->data(), ring->bytes()});
  });
  if (!resized) {
    free_ring(std::move(ring).value());
    return resized.error();
  }
  protocol::ResizeSrqReply reply{};
  reply.depth = depth;
  base::UniqueFd ring_fd = ring->take_fd();
  // What is left in `ring` is the old one, which nobody of ours reads any more.
  std::swap(current->second.memory, *ring);
  free_ring(std::move(ring).value());
  return make_reply(reply, std::move(ring_fd));
}

Session::Answer Session::query_srq(const protocol::QuerySrqRequest& request) {
  auto limit = environment_.worker->call([&](engine::Engine& engine) {
    return engine.query_srq_limit(context_, base::Srqn{request.srq});
  });
  if (!limit) return limit.error();
  protocol::QuerySrqReply reply{};
  reply.limit = *limit;
  return make_reply(reply);
}

Session::Answer Session::destroy_srq(const protocol::DestroySrqRequest& request) {
  const base::Srqn srq{request.srq};
  auto gone = environment_.worker->call(
      [&](engine::Engine& engine) { return engine.destroy_srq(context_, srq); });
  if (!gone) return gone.error();
  const auto ring = shared_rings_.find(srq);
  FLEXINS_CHECK(ring != shared_rings_.end());
  free_ring(std::move(ring->second.memory));
  shared_rings_.erase(ring);
  discount(&TenantUse::srqs);
  return destroyed(*gone);
}

}  // namespace flexins::daemon
