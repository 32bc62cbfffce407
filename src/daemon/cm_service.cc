#include "daemon/cm_service.h"

#include <algorithm>
#include <cerrno>

#include "daemon/cm_codec.h"
#include "wire/packet.h"

namespace flexins::daemon {

using base::Error;
using base::Result;

namespace {

cm::Config manager_config(const CmServiceConfig& config) {
  cm::Config manager;
  manager.ca_guid = config.node_guid;
  manager.connections_max = config.ids_max;
  return manager;
}

}  // namespace

CmService::CmService(const CmServiceConfig& config, base::RandomSource& random, RouteFinder& routes,
                     std::function<void(CmChannel&)> notify)
    : config_(config),
      random_(random),
      routes_(routes),
      notify_(std::move(notify)),
      manager_(manager_config(config), random),
      ports_(random) {}

CmService::~CmService() = default;

Result<CmChannel*> CmService::open_channel(uid_t uid) {
  if (channels_.size() >= config_.channels_max) {
    return Error{ENOMEM, "no room for a further event channel"};
  }
  auto channel = std::make_unique<CmChannel>();
  channel->uid = uid;
  while (channel->secret == 0 || channels_.contains(channel->secret)) {
    channel->secret = random_.next();
  }
  return channels_.emplace(channel->secret, std::move(channel)).first->second.get();
}

void CmService::close_channel(CmChannel& channel, base::TimeNs now) {
  while (!channel.ids.empty()) destroy(*channel.ids.begin()->second, now);
  channels_.erase(channel.secret);
}

CmId& CmService::make_id(CmChannel& channel) {
  while (last_handle_ == 0 || ids_.contains(last_handle_)) ++last_handle_;
  auto id = std::make_unique<CmId>();
  id->handle = last_handle_++;
  id->channel = &channel;
  ids_[id->handle] = id.get();
  ++ids_of_users_[channel.uid];
  return *channel.ids.emplace(id->handle, std::move(id)).first->second;
}

Result<CmId*> CmService::find_id(CmChannel& channel, uint32_t handle) {
  const auto found = channel.ids.find(handle);
  if (found == channel.ids.end()) return Error{ENOENT, "no such id on this channel"};
  return found->second.get();
}

uint32_t CmService::withdraw_events(const CmId& id, base::TimeNs now) {
  std::vector<uint32_t> orphans;
  const auto withdrawn = std::erase_if(id.channel->events, [&](const CmEvent& event) {
    if (event.owner != &id) return false;
    if (event.request != 0) orphans.push_back(event.request);
    return true;
  });
  // Ends of connections that nobody has heard of yet, and nobody will.
  for (const uint32_t handle : orphans) {
    if (id.listener) manager_.request_taken(*id.listener);
    if (const auto found = ids_.find(handle); found != ids_.end()) destroy(*found->second, now);
  }
  return static_cast<uint32_t>(withdrawn);
}

uint32_t CmService::destroy(CmId& id, base::TimeNs now) {
  const uint32_t withdrawn = withdraw_events(id, now);
  if (id.listener) {
    manager_.stop_listening(*id.listener);
    by_listener_.erase(id.listener->value);
  }
  if (id.connection) {
    manager_.release(*id.connection, now);
    by_connection_.erase(id.connection->value);
  }
  ports_.give_back(id);
  ids_.erase(id.handle);
  if (--ids_of_users_[id.channel->uid] == 0) ids_of_users_.erase(id.channel->uid);
  id.channel->ids.erase(id.handle);
  return withdrawn;
}

void CmService::tell(CmId& id, CmEvent event) {
  // Of an end that its program has not taken up yet, it hears nothing.
  if (id.uid == 0) return;
  event.owner = &id;
  if (event.multicast == 0) {
    event.response.uid = id.uid;
    if (event.request == 0) event.response.id = id.handle;
  }
  id.channel->events.push_back(event);
  notify_(*id.channel);
}

void CmService::tell(CmId& id, uint32_t kind, int status) {
  CmEvent event;
  event.response.event = kind;
  event.response.status = static_cast<uint32_t>(status);
  tell(id, event);
}

CmService::Answer CmService::take_event(CmChannel& channel) {
  if (channel.events.empty()) return Error{EAGAIN, "no event waits"};
  const CmEvent event = channel.events.front();
  channel.events.pop_front();
  ++event.owner->events_reported;
  if (event.multicast != 0) ++event.owner->multicasts.at(event.multicast).events_reported;
  if (event.request != 0 && event.owner->listener) manager_.request_taken(*event.owner->listener);
  return answer_with(event.response);
}

CmService::Answer CmService::migrate(CmChannel& channel, Input input, uint64_t other) {
  const auto command = decode_cm<rdma_ucm_migrate_id>(input);
  if (!command) return cm_too_short();
  const auto from = channels_.find(other);
  if (from == channels_.end() || from->second->uid != channel.uid) {
    return cm_invalid("not a channel that an id could come from");
  }
  CmChannel& old = *from->second;
  auto found = find_id(old, command->id);
  if (!found) return found.error();
  CmId& id = **found;
  CmAnswer answer = answer_with(rdma_ucm_migrate_resp{id.events_reported});
  if (&old == &channel) return answer;
  channel.ids.insert(old.ids.extract(id.handle));
  id.channel = &channel;
  // Its events go with it; they are told of anew there.
  std::deque<CmEvent> rest;
  for (CmEvent& event : old.events) {
    if (event.owner != &id) {
      rest.push_back(event);
      continue;
    }
    // The new ends of connections that wait go along too.
    if (event.request != 0 && old.ids.contains(event.request)) {
      channel.ids.insert(old.ids.extract(event.request));
      ids_.at(event.request)->channel = &channel;
    }
    channel.events.push_back(event);
    ++answer.withdrawn_events;
    notify_(channel);
  }
  old.events = std::move(rest);
  return answer;
}

Result<CmAnswer> CmService::command(CmChannel& channel, uint32_t command, Input input,
                                    uint64_t other, base::TimeNs now) {
  const auto dispatch = [&]() -> Answer {
    switch (command) {
      case RDMA_USER_CM_CMD_CREATE_ID: return create_id(channel, input);
      case RDMA_USER_CM_CMD_DESTROY_ID: return destroy_id(channel, input, now);
      case RDMA_USER_CM_CMD_BIND_IP: return bind_ip(channel, input);
      case RDMA_USER_CM_CMD_RESOLVE_IP: return resolve_ip(channel, input);
      case RDMA_USER_CM_CMD_RESOLVE_ROUTE: return resolve_route(channel, input);
      case RDMA_USER_CM_CMD_QUERY_ROUTE: return query_route(channel, input);
      case RDMA_USER_CM_CMD_CONNECT: return connect(channel, input, now);
      case RDMA_USER_CM_CMD_LISTEN: return listen(channel, input);
      case RDMA_USER_CM_CMD_ACCEPT: return accept(channel, input, now);
      case RDMA_USER_CM_CMD_REJECT: return reject(channel, input, now);
      case RDMA_USER_CM_CMD_DISCONNECT: return disconnect(channel, input, now);
      case RDMA_USER_CM_CMD_INIT_QP_ATTR: return init_qp_attributes(channel, input);
      case RDMA_USER_CM_CMD_GET_EVENT: return take_event(channel);
      case RDMA_USER_CM_CMD_SET_OPTION: return set_option(channel, input);
      case RDMA_USER_CM_CMD_NOTIFY: return notify(channel, input, now);
      case RDMA_USER_CM_CMD_JOIN_IP_MCAST: return join_ip(channel, input);
      case RDMA_USER_CM_CMD_LEAVE_MCAST: return leave(channel, input);
      case RDMA_USER_CM_CMD_MIGRATE_ID: return migrate(channel, input, other);
      case RDMA_USER_CM_CMD_QUERY: return query(channel, input);
      case RDMA_USER_CM_CMD_BIND: return bind_any(channel, input);
      case RDMA_USER_CM_CMD_RESOLVE_ADDR: return resolve_address(channel, input);
      case RDMA_USER_CM_CMD_JOIN_MCAST: return join_any(channel, input);
      case RDMA_USER_CM_CMD_GET_OPTION: break;  // no kernel has it
    }
    return Error{ENOSYS, "no such command"};
  };
  Answer answer = dispatch();
  take_manager_events(now);
  return answer;
}

void CmService::on_mad(const wire::IpAddress& source, const wire::IpAddress& destination,
                       std::span<const std::byte> mad, base::TimeNs now) {
  manager_.on_mad(source, destination, mad, now);
  take_manager_events(now);
}

void CmService::on_deadline(base::TimeNs now) {
  manager_.on_deadline(now);
  take_manager_events(now);
}

CmCounts CmService::counts() const {
  return {channels_.size(), ids_.size(), manager_.listeners(), manager_.connections()};
}

}  // namespace flexins::daemon
