#include "sim/host.h"

#include <algorithm>

#include "port/local_port.h"

namespace flexins::sim {

Host::Host(Surroundings& around, uint32_t number, uint32_t applications, CmClient& client,
           Random random)
    : around_(around),
      number_(number),
      client_(client),
      random_(random),
      step_ns_(random_.spread(200, 5'000)),
      peer_window_bytes_(random_.spread(64 * 1024, 1024 * 1024)),
      engine_random_(random.fork("engine")),
      network_(around.fabric, number, random_.spread(256 * 1024, 4 << 20), *this) {
  create_engine();
  for (uint32_t i = 0; i < applications; ++i) {
    applications_.push_back(
        std::make_unique<Application>(*this, number * 16 + i, random.fork("application", i)));
    applications_.back()->start();
  }
}

/// The engine first: it may write to its applications' rings until it is gone.
Host::~Host() { engine_.reset(); }

void Host::create_engine() {
  local_ = std::make_unique<port::LocalPort>();
  engine::EngineConfig config;
  config.addresses = {{Fabric::address(number_, false), "sim0", 4096},
                      {Fabric::address(number_, true), "sim0", 4096}};
  config.local = local_.get();
  config.network = &network_;
  config.random = &engine_random_;
  config.management = this;
  config.peer_window_bytes = peer_window_bytes_;
  engine_ = engine::Engine::create(config);
  cm::Config terms;
  terms.ca_guid = number_ + 1;
  terms.resend_ns = 20 * base::kMillisecond;
  manager_ = std::make_unique<cm::Manager>(terms, engine_random_);
  static_cast<void>(manager_->listen(kService, wire::IpAddress{}, 64).value());
}

void Host::crash() {
  if (!alive()) return;
  for (const auto& application : applications_) application->die(true);
  network_.set_deaf(true);
  mads_.clear();
  manager_.reset();
  engine_.reset();
}

void Host::restart() {
  if (alive()) return;
  network_.set_deaf(false);
  create_engine();
  for (const auto& application : applications_) application->start();
  kick();
}

void Host::schedule(base::TimeNs time) {
  time = std::max({time, around_.events.now(), free_at_});
  if (time >= scheduled_) return;
  scheduled_ = time;
  around_.events.at(time, *this);
}

void Host::kick() {
  if (alive()) schedule(around_.events.now());
}

bool Host::on_mad(const wire::IpAddress& source, const wire::IpAddress& destination,
                  std::span<const std::byte> mad) noexcept {
  constexpr size_t kWaitingMax = 256;
  if (mads_.size() >= kWaitingMax) return false;
  Mad& waiting = mads_.emplace_back();
  waiting.source = source;
  waiting.destination = destination;
  std::copy(mad.begin(), mad.end(), waiting.bytes.begin());
  return true;
}

void Host::pump() {
  if (!alive()) return;
  const base::TimeNs now = around_.events.now();
  while (!mads_.empty()) {
    const Mad mad = mads_.front();
    mads_.pop_front();
    manager_->on_mad(mad.source, mad.destination, mad.bytes, now);
  }
  if (manager_->next_deadline() <= now) manager_->on_deadline(now);
  cm::Event event;
  while (manager_->next_event(event)) client_.on_cm_event(*this, event);
  cm::OutgoingMad out;
  while (manager_->next_mad(out)) {
    wire::Path path;
    path.source = out.path.local;
    path.destination = out.path.remote;
    path.is_local = out.path.local == out.path.remote;
    // What the port has no room for is lost, and said again.
    static_cast<void>(engine_->send_mad(path, out.bytes, now));
  }
  schedule(manager_->next_deadline());
  if (!mads_.empty()) kick();
}

void Host::on_event(uint64_t, base::TimeNs now) {
  if (now != scheduled_) return;  // an earlier one has come in between
  scheduled_ = base::kNever;
  if (!alive()) return;
  const bool worked = engine_->step(now);
  free_at_ = now + step_ns_;
  observe();
  pump();
  for (const auto& application : applications_) application->wake();
  schedule(worked || network_.waiting() ? free_at_ : engine_->next_event());
}

void Host::observe() noexcept {
  for (const auto& application : applications_) application->observe();
  around_.oracle.check_owed();
}

}  // namespace flexins::sim
