#include "sim/application.h"

#include "base/check.h"
#include "pipe/entry_writer.h"
#include "sim/host.h"

/// What an application has, and how it lives and ends. Its work: application_work.cc.

namespace flexins::sim {

namespace {

constexpr uint64_t kArenaBytes = 6 << 20;
constexpr uint64_t kConstantBytes = 5 << 18;
constexpr uint64_t kArenaStride = uint64_t{1} << 32;
constexpr uint32_t kCommonCqDepth = 8192;
constexpr uint32_t kAllAccess = base::kAccessLocalWrite | base::kAccessRemoteWrite |
                                base::kAccessRemoteRead | base::kAccessRemoteAtomic |
                                base::kAccessMwBind;

}  // namespace

Endpoint::Endpoint(Application& app, const EndpointOptions& with)
    : application(&app),
      life(app.life()),
      options(with),
      ring(
          pipe::receive_ring_bytes(pipe::round_up_power_of_two(with.max_receive_wr), with.max_sge)),
      receives(ring.data(), pipe::round_up_power_of_two(with.max_receive_wr), with.max_sge) {}

bool Endpoint::usable() const {
  return !destroyed && application->alive() && application->life() == life;
}

Application::Application(Host& host, uint32_t number, Random random)
    : host_(host), number_(number), random_(random) {}

Application::~Application() = default;

bool Application::stalled() const { return host_.around().events.now() < stalled_until_; }

void Application::start() {
  ++life_;
  // Other addresses in each life, so that a late packet for an old one finds nothing.
  const uint64_t base = kArenaStride * (1 + number_ + 1000 * uint64_t{life_});
  arena_ =
      std::make_shared<Arena>(base, kConstantBytes, kArenaBytes, random_.fork("memory", life_));
  submission_ = std::make_unique<RingMemory>(pipe::submission_ring_bytes());
  producer_ = pipe::SubmissionProducer(submission_->data());
  cqs_.clear();
  keys_.clear();
  counters_.clear();
  ledgers_.clear();
  alive_ = true;
  create_objects();
}

void Application::create_objects() {
  engine::Engine& engine = host_.engine();
  context_ = engine.open_context(this, submission_->get()).value();
  pd_ = engine.allocate_pd(context_).value();
  create_cq(kCommonCqDepth, false);
  create_cq(kCommonCqDepth, false);
  key_ = register_region(arena_->base(), kArenaBytes, kAllAccess, false);
  copied_key_ = register_region(arena_->base(), kArenaBytes, kAllAccess, true);
  read_key_ = register_region(arena_->base(), kArenaBytes, base::kAccessRemoteRead, false);
  keys_ = {key_, copied_key_, read_key_};
  for (const bool swaps : {false, true}) {
    const uint64_t address = (*arena_->allocate(2 * sizeof(uint64_t)) + 7) & ~uint64_t{7};
    std::memset(arena_->at(address), 0, sizeof(uint64_t));
    counters_.push_back(&host_.around().oracle.open_counter(arena_, address, swaps));
  }
  constexpr uint32_t kDepth = 32;
  constexpr uint32_t kSges = 3;
  srq_ring_ = std::make_unique<RingMemory>(pipe::receive_ring_bytes(kDepth, kSges));
  srq_ = pipe::ReceiveProducer(srq_ring_->data(), kDepth, kSges);
  srq_ledger_ = &host_.around().oracle.open_srq(arena_);
  engine::CreateSrq request;
  request.pd = pd_;
  request.max_wr = kDepth;
  request.max_sge = kSges;
  srqn_ = engine.create_srq(context_, request, srq_ring_->get()).value();
  replenish_shared();
}

void Application::die(bool engine_died) {
  if (!alive_) return;
  host_.observe();
  alive_ = false;
  for (auto& [qpn, ledger] : ledgers_) {
    if (!ledger->destroyed) host_.around().oracle.silence(*ledger);
  }
  endpoints_.clear();
  if (!engine_died) host_.engine().close_context(context_);
  arena_->bury();
  buried_.push_back(arena_);
}

void Application::check_memory() {
  for (const auto& arena : buried_) {
    host_.around().oracle.check_arena(*arena, "of an application that had died");
  }
  if (alive_) host_.around().oracle.check_arena(*arena_, "of an application");
}

void Application::stop() {
  if (!alive_) return;
  Oracle& oracle = host_.around().oracle;
  engine::Engine& engine = host_.engine();
  host_.observe();
  const auto expect = [&](bool fine, const char* what) {
    if (!fine) oracle.violate("resources", nullptr, std::string("cannot be given back: ") + what);
  };
  expect(endpoints_.empty(), "queue pairs");
  expect(engine.destroy_srq(context_, srqn_).ok(), "shared receive queue");
  for (const base::MemoryKey key : keys_)
    expect(engine.deregister_region(context_, key).ok(), "region");
  for (const auto& cq : cqs_) {
    if (!cq->destroyed) expect(engine.destroy_cq(context_, cq->id).ok(), "completion queue");
  }
  expect(engine.free_pd(context_, pd_).ok(), "protection domain");
  for (const engine::ContextInfo& row : engine.info().contexts) {
    if (row.context != context_) continue;
    expect(row.pds + row.cqs + row.qps + row.regions + row.srqs + row.windows == 0, "something");
  }
  check_memory();
  engine.close_context(context_);
  alive_ = false;
}

uint32_t Application::create_cq(uint32_t depth, bool may_overrun) {
  auto cq = std::make_unique<Cq>(depth, may_overrun);
  const auto index = static_cast<uint32_t>(cqs_.size());
  cq->id = host_.engine()
               .create_cq(context_, {uint64_t{index} << 32, depth, {}, false}, cq->ring.get())
               .value();
  cqs_.push_back(std::move(cq));
  return index;
}

void Application::destroy_cq(uint32_t index) {
  Cq& cq = *cqs_[index];
  host_.observe();
  cq.destroyed = true;
  if (!host_.engine().destroy_cq(context_, cq.id).ok()) {
    host_.around().oracle.violate("resources", nullptr, "a CQ without users cannot be destroyed");
  }
}

base::MemoryKey Application::register_region(uint64_t address, uint64_t length, uint32_t access,
                                             bool copied) {
  memory::Region region;
  region.pd = pd_;
  region.address = region.window_base = address;
  region.length = length;
  region.access = access;
  region.window = std::make_shared<ArenaWindow>(arena_, copied ? &host_ : nullptr);
  return host_.engine().register_region(context_, std::move(region)).value();
}

std::unique_ptr<Endpoint> Application::create_endpoint(const EndpointOptions& options) {
  auto endpoint = std::make_unique<Endpoint>(*this, options);
  engine::CreateQp request;
  request.pd = pd_;
  request.send_cq = request.receive_cq = cqs_[options.cq]->id;
  request.type = options.type;
  request.max_send_wr = options.max_send_wr;
  request.max_receive_wr = options.max_receive_wr;
  request.max_send_sge = request.max_receive_sge = options.max_sge;
  request.max_inline_bytes = options.max_inline_bytes;
  request.signal_all = options.signal_all;
  if (options.shared_receives) request.srq = srqn_;
  // The cookie is the number that the ledger will have: events find their way by it.
  request.cookie = next_wr_id_++;
  endpoint->qpn = host_.engine().create_qp(context_, request, endpoint->ring.get()).value();
  QpLedger ledger;
  ledger.host = host_.number();
  ledger.qpn = endpoint->qpn.value;
  ledger.type = options.type;
  ledger.cookie = request.cookie;
  ledger.signal_all = options.signal_all;
  ledger.arena = arena_;
  if (options.shared_receives) ledger.srq = srq_ledger_;
  endpoint->ledger = &host_.around().oracle.open(std::move(ledger));
  endpoints_[endpoint->qpn.value] = endpoint.get();
  ledgers_[endpoint->qpn.value] = endpoint->ledger;
  return endpoint;
}

void Application::destroy_endpoint(Endpoint& endpoint) {
  if (!host_.engine().destroy_qp(context_, endpoint.qpn).ok()) {
    host_.around().oracle.violate("resources", endpoint.ledger, "the QP cannot be destroyed");
  }
  // What completes while it is being destroyed still counts.
  host_.observe();
  host_.around().oracle.destroyed(*endpoint.ledger);
  endpoint.destroyed = true;
  endpoints_.erase(endpoint.qpn.value);
}

bool Application::async_event(uint64_t cookie, base::AsyncEvent event) noexcept {
  Surroundings& around = host_.around();
  around.trace.note(around.events.now(), cookie, static_cast<uint64_t>(event));
  if (event == base::AsyncEvent::kCqError) fail_users_of(static_cast<uint32_t>(cookie >> 32));
  const bool fails = event == base::AsyncEvent::kQpFatal ||
                     event == base::AsyncEvent::kQpRequestError ||
                     event == base::AsyncEvent::kQpAccessError;
  for (auto& [qpn, ledger] : ledgers_) {
    if (fails && ledger->cookie == cookie) {
      around.oracle.may_fail(*ledger, "told of an error by an event");
    }
  }
  return true;
}

void Application::fail_users_of(uint32_t cq) {
  Oracle& oracle = host_.around().oracle;
  if (!cqs_[cq]->may_overrun) {
    return oracle.violate("CQ overrun", nullptr, "of a CQ that holds all that is outstanding");
  }
  ++host_.around().faults[FaultKind::kOverrun];
  // What it held before is still to be judged.
  for (auto& [qpn, endpoint] : endpoints_) {
    if (endpoint->options.cq == cq) oracle.silence(*endpoint->ledger);
  }
}

}  // namespace flexins::sim
