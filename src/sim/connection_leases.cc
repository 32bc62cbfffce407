#include "sim/connection.h"

/// Registrations and memory windows that come and go while they are in use.

namespace flexins::sim {

namespace {

constexpr size_t kRegistrationsMax = 4;

}  // namespace

void Connection::take_registration(Side& side, bool source) {
  Registration registration;
  registration.length = static_cast<uint32_t>(random_.spread(64, 16 * 1024));
  const std::shared_ptr<Arena>& arena = side.application->arena();
  const auto address = arena->allocate(registration.length);
  if (!address.has_value()) return;
  registration.address = *address;
  uint32_t access = base::kAccessLocalWrite | base::kAccessRemoteWrite | base::kAccessMwBind;
  if (source) {
    const uint64_t from = random_.below(arena->constant_bytes() - registration.length);
    const std::byte* bytes = arena->at(arena->base() + from);
    std::memcpy(arena->at(*address), bytes, registration.length);
    registration.content = {{bytes, registration.length}};
    access = 0;
  }
  registration.key =
      side.application->register_region(*address, registration.length, access, random_.chance(0.5));
  (source ? side.sources : side.targets).push_back(std::move(registration));
}

void Connection::revoke(Side& side, Registration& registration) {
  if (registration.lease->revoked) return;
  if (!host(side).engine().deregister_region(side.application->context(), registration.key).ok()) {
    return;  // a window is bound to it
  }
  registration.lease->revoked = true;
  // Whoever still reads or writes it now gives himself away.
  side.application->arena()->poison(registration.address, registration.length);
}

void Connection::churn_leases(Side& side) {
  if (side.sources.size() < kRegistrationsMax && random_.chance(0.1)) take_registration(side, true);
  if (side.targets.size() < kRegistrationsMax && random_.chance(0.1))
    take_registration(side, false);
  if (!side.sources.empty() && random_.chance(0.02)) revoke(side, random_.pick(side.sources));
  if (!side.targets.empty() && random_.chance(0.02)) revoke(side, random_.pick(side.targets));
  if (random_.chance(0.2)) advance_window(side, other(side));
}

/// Bind, use, invalidate here or from there, and see that it is over.
void Connection::advance_window(Side& owner, Side& peer) {
  Window& window = owner.window;
  Application& application = *owner.application;
  if (window.stage == Window::Stage::kNone) {
    if (owner.targets.empty() || owner.targets[0].lease->revoked || owner.targets[0].used) return;
    if (owner.endpoint->sends_outstanding() >= owner.endpoint->options.max_send_wr) return;
    const auto key = host(owner).engine().allocate_window(application.context(), application.pd(),
                                                          base::MwType::kType2);
    if (!key.ok()) return;
    window.key = *key;
    window.bound_key = key->value ^ static_cast<uint32_t>(random_.between(1, 255));
    window.lease = std::make_shared<Lease>();
    const Registration& region = owner.targets[0];
    Draft draft;
    draft.record.opcode = base::WrOpcode::kBindMw;
    draft.record.source = region.lease;
    draft.order.flags = base::kSendSignaled;
    draft.order.remote_address = region.address;
    draft.order.remote_key = window.bound_key;
    draft.order.bind_old_key = window.key.value;
    draft.order.bind = {region.length, region.key.value, base::kAccessRemoteWrite};
    window.stage = submit(owner, draft) ? Window::Stage::kBinding : Window::Stage::kNone;
    if (window.stage == Window::Stage::kNone) {
      static_cast<void>(host(owner).engine().free_window(application.context(), *key));
    }
    return;
  }
  if (window.stage != Window::Stage::kBound || !random_.chance(0.2)) return;
  Draft draft;
  draft.record.invalidate_key = window.bound_key;
  draft.order.flags = base::kSendSignaled;
  draft.record.opcode = base::WrOpcode::kLocalInvalidate;
  const bool remotely = random_.chance(0.5) && peer.ready();
  if (remotely) draft.record.opcode = base::WrOpcode::kSendWithInvalidate;
  Side& poster = remotely ? peer : owner;
  if (poster.endpoint->sends_outstanding() >= poster.endpoint->options.max_send_wr) return;
  if (!submit(poster, draft)) return;
  window.lease->revoked = true;
  window.stage = Window::Stage::kInvalidating;
}

void Connection::Side::on_completion(const pipe::CompletionEntry& entry) {
  if (entry.status != 0) return;
  const auto bind = static_cast<uint8_t>(base::WcOpcode::kBindMw);
  const auto invalidate = static_cast<uint8_t>(base::WcOpcode::kLocalInvalidate);
  if (entry.is_send != 0 && entry.opcode == bind) window.stage = Window::Stage::kBound;
  const bool from_afar = entry.is_send == 0 && (entry.wc_flags & base::kWcWithInvalidate) != 0;
  if (from_afar || (entry.is_send != 0 && entry.opcode == invalidate)) {
    window.stage = Window::Stage::kInvalid;
  }
}

void Connection::give_back_leases(Side& side) {
  const bool alive = side.endpoint != nullptr && side.application->alive() &&
                     side.application->life() == side.endpoint->life;
  const std::shared_ptr<Arena> arena = side.application->arena();
  if (alive && side.window.stage != Window::Stage::kNone) {
    if (!host(side).engine().free_window(side.application->context(), side.window.key).ok()) {
      around_.oracle.violate("resources", side.endpoint->ledger, "a window cannot be freed");
    }
  }
  for (std::vector<Registration>* list : {&side.sources, &side.targets}) {
    for (Registration& registration : *list) {
      if (!alive) continue;
      const bool was_revoked = registration.lease->revoked;
      if (was_revoked && !arena->is_poison(registration.address, registration.length)) {
        around_.oracle.violate("placement", side.endpoint->ledger,
                               "bytes were written after their deregistration");
      }
      revoke(side, registration);
      if (!registration.lease->revoked) {
        around_.oracle.violate("resources", side.endpoint->ledger, "a region cannot be given back");
      }
      if (!arena->free(registration.address)) {
        around_.oracle.violate("guard bytes", side.endpoint->ledger, "changed beside a region");
      }
    }
    list->clear();
  }
  side.window = Window{};
  side.has_ah = false;
  side.has_cm_id = false;
  side.failed_on_purpose = false;
}

}  // namespace flexins::sim
