#include <algorithm>
#include <cerrno>

#include "engine/engine_impl.h"

/// XRC domains, and targets that several programs share.

namespace flexins::engine {

using base::Error;
using base::Result;

bool XrcDomain::find(uint32_t srqn, transport::ReceiveQueue& out) noexcept {
  const auto it = srqs_.find(srqn);
  if (it == srqs_.end() || it->second->config().cq->overrun()) return false;
  out = {it->second, it->second, it->second->pd()};
  return true;
}

Result<base::XrcdId> EngineImpl::open_xrcd(base::ContextId id, const OpenXrcd& request) {
  Context* context = find_context(id);
  if (context == nullptr) return Error{ENOENT, "no such context"};
  if (context->xrcds.size() >= base::Limits::kMaxXrcd) {
    return Error{ENOMEM, "this context has no room for a further XRC domain"};
  }
  std::shared_ptr<XrcDomain> domain;
  if (request.file) {
    if (const auto it = domains_.find(*request.file); it != domains_.end()) {
      domain = it->second.lock();
    }
    // These two errors are what Linux says.
    if (domain == nullptr && !request.create) {
      return Error{EAGAIN, "no XRC domain is open through this file"};
    }
    if (domain != nullptr && request.exclusive) {
      return Error{EINVAL, "an XRC domain is open through this file already"};
    }
  }
  if (domain == nullptr) {
    domain = std::make_shared<XrcDomain>(request.file);
    if (request.file) domains_[*request.file] = domain;
  }
  const base::XrcdId xrcd{++last_id_};
  context->xrcds.emplace(xrcd.value, XrcdHandle{std::move(domain)});
  return xrcd;
}

Result<void> EngineImpl::close_xrcd(base::ContextId id, base::XrcdId xrcd) {
  Context* context = find_context(id);
  if (context == nullptr) return Error{ENOENT, "no such context"};
  const auto it = context->xrcds.find(xrcd.value);
  if (it == context->xrcds.end()) return Error{ENOENT, "no such XRC domain in this context"};
  if (it->second.users > 0) return Error{EBUSY, "SRQs or queue pairs still use this XRC domain"};
  remove_xrcd(*context, xrcd);
  return {};
}

void EngineImpl::remove_xrcd(Context& context, base::XrcdId xrcd) {
  const auto it = context.xrcds.find(xrcd.value);
  const std::optional<XrcdFile> file = it->second.domain->file();
  context.xrcds.erase(it);
  if (!file) return;
  const auto shared = domains_.find(*file);
  if (shared != domains_.end() && shared->second.expired()) domains_.erase(shared);
}

Result<base::Qpn> EngineImpl::create_target(Context& context, const CreateQp& request) {
  const auto handle = context.xrcds.find(request.xrcd.value);
  if (handle == context.xrcds.end()) {
    return Error{EINVAL, "the XRC domain of this QP does not exist"};
  }
  QpParts parts;
  parts.domain = handle->second.domain.get();
  auto qp = add_qp(context, request, parts);
  if (!qp.ok()) return qp.error();
  (*qp)->openers.push_back({&context, request.cookie, request.xrcd, {}});
  ++handle->second.users;
  return (*qp)->transport->config().qpn;
}

Result<void> EngineImpl::open_qp(base::ContextId id, base::XrcdId xrcd, base::Qpn qpn,
                                 uint64_t cookie) {
  Context* context = find_context(id);
  if (context == nullptr) return Error{ENOENT, "no such context"};
  const auto handle = context->xrcds.find(xrcd.value);
  const auto found = qps_.find(qpn.value);
  if (handle == context->xrcds.end() || found == qps_.end() ||
      found->second->domain != handle->second.domain.get()) {
    return Error{EINVAL, "there is no such target in this XRC domain"};
  }
  found->second->openers.push_back({context, cookie, xrcd, {}});
  ++handle->second.users;
  return {};
}

Result<EventsRead> EngineImpl::close_qp(base::ContextId id, base::Qpn qpn, uint64_t cookie) {
  auto found = find_qp(id, qpn);
  if (!found.ok()) return found.error();
  QueuePair& qp = **found;
  const auto opener = std::find_if(
      qp.openers.begin(), qp.openers.end(),
      [&](const QueuePair::Opener& o) { return o.context->id == id && o.cookie == cookie; });
  if (opener == qp.openers.end()) return Error{EINVAL, "not opened by this name"};
  const uint32_t read = opener->events.settle(*opener->context->events, cookie);
  drop_opener(qp, static_cast<size_t>(opener - qp.openers.begin()));
  return EventsRead{0, read};
}

void EngineImpl::drop_opener(QueuePair& qp, size_t index) {
  const QueuePair::Opener opener = qp.openers[index];
  --opener.context->xrcds[opener.xrcd.value].users;
  if (qp.openers.size() == 1) return remove_qp(*qp.context, qp.transport->config().qpn);
  qp.openers.erase(qp.openers.begin() + static_cast<ptrdiff_t>(index));
  const bool stays =
      std::any_of(qp.openers.begin(), qp.openers.end(),
                  [&](const QueuePair::Opener& other) { return other.context == qp.context; });
  if (!stays) hand_over(qp, *qp.openers.front().context);
}

/// Another opener's context becomes the target's home.
void EngineImpl::hand_over(QueuePair& qp, Context& to) {
  const bool ready = qp.is_ready;
  qp.context->ready.remove(&qp);
  const auto it = qp.context->qps.find(qp.transport->config().qpn.value);
  std::unique_ptr<QueuePair> owned = std::move(it->second);
  qp.context->qps.erase(it);
  qp.context = &to;
  to.qps.emplace(qp.transport->config().qpn.value, std::move(owned));
  if (ready) make_ready(qp);
}

void EngineImpl::close_targets(const Context& context) {
  std::vector<base::Qpn> targets;
  for (const auto& [qpn, qp] : qps_) {
    if (qp->domain != nullptr) targets.push_back(base::Qpn{qpn});
  }
  for (const base::Qpn qpn : targets) {
    for (;;) {
      const auto found = qps_.find(qpn.value);
      if (found == qps_.end()) break;
      const auto& openers = found->second->openers;
      const auto opener =
          std::find_if(openers.begin(), openers.end(),
                       [&](const QueuePair::Opener& o) { return o.context == &context; });
      if (opener == openers.end()) break;
      drop_opener(*found->second, static_cast<size_t>(opener - openers.begin()));
    }
  }
}

}  // namespace flexins::engine
