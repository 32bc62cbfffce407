#include <cerrno>
#include <string>

#include "daemon/peer_rights.h"
#include "daemon/session.h"
#include "daemon/session_reply.h"
#include "pipe/layout.h"

/// Queue pairs, submission rings and the port.

namespace flexins::daemon {
namespace {

using base::Limits;

base::Result<void> check_capabilities(const protocol::CreateQpRequest& request) {
  const auto type = static_cast<base::QpType>(request.type);
  if (type != base::QpType::kReliable && type != base::QpType::kUnreliable &&
      type != base::QpType::kDatagram && type != base::QpType::kRawPacket &&
      type != base::QpType::kReceiveQueue && !base::is_xrc(type)) {
    return invalid("QP type " + std::to_string(request.type));
  }
  if (type == base::QpType::kReceiveQueue && request.srq != 0) {
    return invalid("a receive work queue with an SRQ");
  }
  if (request.max_send_wr > Limits::kMaxSendWr || request.max_receive_wr > Limits::kMaxReceiveWr) {
    return invalid("more work requests than the device has");
  }
  if (request.max_send_sge > Limits::kMaxSge || request.max_receive_sge > Limits::kMaxSge) {
    return invalid("more scatter/gather elements than the device has");
  }
  if (request.max_inline_bytes > Limits::kMaxInlineBytes) {
    return invalid("more inline bytes than the device has");
  }
  return {};
}

engine::CreateQp engine_request(const protocol::CreateQpRequest& request) {
  engine::CreateQp create;
  create.pd = base::PdId{request.pd};
  create.send_cq = base::CqId{request.send_cq};
  create.receive_cq = base::CqId{request.receive_cq};
  create.submission_ring = request.submission_ring;
  create.cookie = request.cookie;
  create.type = static_cast<base::QpType>(request.type);
  create.max_send_wr = request.max_send_wr;
  create.max_receive_wr = request.max_receive_wr;
  create.max_send_sge = request.max_send_sge;
  create.max_receive_sge = request.max_receive_sge;
  create.max_inline_bytes = request.max_inline_bytes;
  create.signal_all = request.signal_all != 0;
  create.srq = base::Srqn{request.srq};
  create.xrcd = base::XrcdId{request.xrcd};
  return create;
}

}  // namespace

Session::Answer Session::create_submission_ring(const protocol::CreateSubmissionRingRequest&) {
  if (submission_rings_.size() >= pipe::kMaxSubmissionRings) {
    return base::Error{ENOSPC, "all submission rings are in use"};
  }
  auto ring = allocate_ring("flexins-submission", pipe::submission_ring_bytes());
  if (!ring) return ring.error();
  auto number = environment_.worker->call([&](engine::Engine& engine) {
    return engine.add_submission_ring(context_, {ring->data(), ring->bytes()});
  });
  if (!number) {
    free_ring(std::move(ring).value());
    return number.error();
  }
  protocol::CreateSubmissionRingReply reply{};
  reply.ring = *number;
  base::UniqueFd ring_fd = ring->take_fd();
  submission_rings_.push_back(std::move(ring).value());
  return make_reply(reply, std::move(ring_fd));
}

Session::Answer Session::create_qp(const protocol::CreateQpRequest& request) {
  if (auto checked = check_capabilities(request); !checked) return checked.error();
  if (static_cast<base::QpType>(request.type) == base::QpType::kRawPacket &&
      !may_use_raw_frames(peer_)) {
    return base::Error{EPERM, "raw packet QPs are for root and who has CAP_NET_RAW"};
  }
  if (auto room = check_limit("QPs", use_.qps, environment_.limits.qps_max); !room) {
    return room.error();
  }
  if (request.srq != 0 || base::is_xrc(static_cast<base::QpType>(request.type))) {
    return create_qp_without_ring(request);
  }
  const uint32_t depth = pipe::round_up_power_of_two(request.max_receive_wr);
  auto ring =
      allocate_ring("flexins-receive", pipe::receive_ring_bytes(depth, request.max_receive_sge));
  if (!ring) return ring.error();
  auto qpn = environment_.worker->call([&](engine::Engine& engine) {
    return engine.create_qp(context_, engine_request(request), {ring->data(), ring->bytes()});
  });
  if (!qpn) {
    free_ring(std::move(ring).value());
    return qpn.error();
  }
  count(&TenantUse::qps);
  protocol::CreateQpReply reply{};
  reply.qpn = qpn->value;
  reply.receive_depth = depth;
  reply.generation = engine::kFirstGeneration;
  base::UniqueFd ring_fd = ring->take_fd();
  receive_rings_.emplace(*qpn, std::move(ring).value());
  return make_reply(reply, std::move(ring_fd));
}

Session::Answer Session::create_qp_without_ring(const protocol::CreateQpRequest& request) {
  auto qpn = environment_.worker->call([&](engine::Engine& engine) {
    return engine.create_qp(context_, engine_request(request), {});
  });
  if (!qpn) return qpn.error();
  count(&TenantUse::qps);
  protocol::CreateQpReply reply{};
  reply.qpn = qpn->value;
  reply.generation = engine::kFirstGeneration;
  return make_reply(reply);
}

Session::Answer Session::modify_qp(const protocol::ModifyQpRequest& request) {
  auto modified = environment_.worker->call([&](engine::Engine& engine) {
    return engine.modify_qp(context_, base::Qpn{request.qpn}, request.attributes, request.mask,
                            monotonic_now());
  });
  if (!modified) return modified.error();
  if ((request.mask & base::kQpAddressVector) != 0 && environment_.on_destination) {
    environment_.on_destination(request.attributes.address);
  }
  protocol::ModifyQpReply reply{};
  reply.state = static_cast<uint32_t>(modified->state);
  reply.generation = modified->generation;
  return make_reply(reply);
}

Session::Answer Session::query_qp(const protocol::QueryQpRequest& request) {
  auto attributes = environment_.worker->call(
      [&](engine::Engine& engine) { return engine.query_qp(context_, base::Qpn{request.qpn}); });
  if (!attributes) return attributes.error();
  protocol::QueryQpReply reply{};
  reply.attributes = *attributes;
  return make_reply(reply);
}

Session::Answer Session::set_qp_rate(const protocol::SetQpRateRequest& request) {
  if (request.rate_kbps != 0 && (request.rate_kbps < protocol::kLeastRateKbps ||
                                 request.rate_kbps > protocol::kMostRateKbps)) {
    return invalid("a rate of " + std::to_string(request.rate_kbps) + " kbit/s");
  }
  auto set = environment_.worker->call([&](engine::Engine& engine) {
    return engine.set_qp_rate(context_, base::Qpn{request.qpn}, uint64_t{request.rate_kbps} * 125,
                              request.burst_bytes, monotonic_now());
  });
  if (!set) return set.error();
  return done();
}

Session::Answer Session::destroy_qp(const protocol::DestroyQpRequest& request) {
  const base::Qpn qpn{request.qpn};
  auto gone = environment_.worker->call(
      [&](engine::Engine& engine) { return engine.destroy_qp(context_, qpn); });
  if (!gone) return gone.error();
  if (const auto ring = receive_rings_.find(qpn); ring != receive_rings_.end()) {
    free_ring(std::move(ring->second));
    receive_rings_.erase(ring);
  }
  discount(&TenantUse::qps);
  return destroyed(*gone);
}

Session::Answer Session::query_port(const protocol::QueryPortRequest&) {
  protocol::QueryPortReply reply{};
  reply.port = environment_.port;
  return make_reply(reply);
}

}  // namespace flexins::daemon
