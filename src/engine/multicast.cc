#include "engine/multicast.h"

#include <algorithm>
#include <cerrno>

#include "engine/engine_impl.h"

/// Multicast groups: who is in them, and what is sent to them.

namespace flexins::engine {

using base::Error;
using base::Result;

namespace {

bool holds(const std::vector<QueuePair*>& members, const QueuePair* qp) {
  return std::find(members.begin(), members.end(), qp) != members.end();
}

}  // namespace

bool MulticastTable::is_member(const wire::IpAddress& group, const QueuePair* qp) const {
  const auto it = groups_.find(group);
  return it != groups_.end() && holds(it->second, qp);
}

bool MulticastTable::has(const QueuePair* qp) const {
  return std::any_of(groups_.begin(), groups_.end(),
                     [qp](const auto& group) { return holds(group.second, qp); });
}

wire::IpAddress MulticastTable::any_of(const QueuePair* qp) const {
  for (const auto& [group, members] : groups_) {
    if (holds(members, qp)) return group;
  }
  return {};
}

std::span<QueuePair* const> MulticastTable::members(const wire::IpAddress& group) const {
  const auto it = groups_.find(group);
  if (it == groups_.end()) return {};
  return it->second;
}

void MulticastTable::add(const wire::IpAddress& group, QueuePair* qp) {
  groups_[group].push_back(qp);
}

bool MulticastTable::remove(const wire::IpAddress& group, QueuePair* qp) {
  const auto it = groups_.find(group);
  std::erase(it->second, qp);
  if (!it->second.empty()) return false;
  groups_.erase(it);
  return true;
}

Result<void> EngineImpl::attach_multicast(base::ContextId id, base::Qpn qpn, const base::Gid& gid) {
  auto found = find_qp(id, qpn);
  if (!found.ok()) return found.error();
  QueuePair* qp = *found;
  const auto group = wire::IpAddress::from_gid(gid.data());
  if (!qp->is_datagram()) return Error{EINVAL, "only datagram queue pairs join groups"};
  if (!group.is_multicast()) return Error{EINVAL, "this GID is not one of a multicast group"};
  if (multicast_.is_member(group, qp)) return {};
  if (multicast_.members(group).size() >= base::Limits::kMaxMulticastQps) {
    return Error{ENOMEM, "too many queue pairs in this multicast group"};
  }
  if (!multicast_.contains(group)) {
    if (multicast_.size() >= base::Limits::kMaxMulticastGroups) {
      return Error{ENOMEM, "too many multicast groups"};
    }
    if (config_.network != nullptr) {
      if (auto joined = config_.network->join(group); !joined.ok()) return joined;
    }
  }
  multicast_.add(group, qp);
  return {};
}

Result<void> EngineImpl::detach_multicast(base::ContextId id, base::Qpn qpn, const base::Gid& gid) {
  auto found = find_qp(id, qpn);
  if (!found.ok()) return found.error();
  const auto group = wire::IpAddress::from_gid(gid.data());
  if (!multicast_.is_member(group, *found)) {
    return Error{EINVAL, "the queue pair is not in this group"};
  }
  leave_group(group, **found);
  return {};
}

void EngineImpl::leave_group(const wire::IpAddress& group, QueuePair& qp) {
  if (multicast_.remove(group, &qp) && config_.network != nullptr) config_.network->leave(group);
}

/// Packets to groups reach our own members past the network, each once and not the sender.
void EngineImpl::loop_multicast(std::span<wire::TxPacket> sent, base::TimeNs now) {
  for (wire::TxPacket& packet : sent) {
    if (!multicast_.contains(packet.path->destination)) continue;
    config_.local->transmit({&packet, 1}, now);
    while (receive(*config_.local, now)) {
    }
  }
}

void EngineImpl::deliver_multicast(const wire::Headers& headers, const wire::RxPacket& packet,
                                   std::span<const iovec> payload, uint32_t length,
                                   base::TimeNs now) {
  const bool is_own = std::any_of(config_.addresses.begin(), config_.addresses.end(),
                                  [&](const auto& a) { return a.address == packet.source; });
  if (is_own && from_network_) {
    // What we sent comes back to our socket; members here have it already.
    ++counters_.multicast_echoes;
    return;
  }
  const auto members = multicast_.members(packet.destination);
  if (members.empty()) ++counters_.drop_no_group;
  for (QueuePair* qp : members) {
    if (is_own && qp->transport->config().qpn == headers.deth.source) continue;
    deliver_datagram(*qp, headers, packet, payload, length, now);
    after_activity(*qp);
  }
}

}  // namespace flexins::engine
