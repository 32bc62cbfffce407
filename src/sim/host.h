#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "cm/manager.h"
#include "engine/engine.h"
#include "port/port.h"
#include "sim/application.h"
#include "sim/network_port.h"
#include "sim/surroundings.h"

namespace flexins::sim {

/// Told of what communication managers say.
class CmClient {
 public:
  virtual ~CmClient() = default;
  virtual void on_cm_event(Host& host, const cm::Event& event) = 0;
};

/// A machine: an engine, stepped one round at a time, its communication manager, and applications.
class Host final : public Actor,
                   public PlacementObserver,
                   private NetworkPort::Listener,
                   private engine::ManagementSink {
 public:
  Host(Surroundings& around, uint32_t number, uint32_t applications, CmClient& client,
       Random random);
  ~Host() override;

  [[nodiscard]] bool alive() const { return engine_ != nullptr; }
  [[nodiscard]] engine::Engine& engine() { return *engine_; }
  [[nodiscard]] cm::Manager& manager() { return *manager_; }
  [[nodiscard]] uint32_t number() const { return number_; }
  [[nodiscard]] Surroundings& around() { return around_; }
  [[nodiscard]] std::vector<std::unique_ptr<Application>>& applications() { return applications_; }
  static constexpr uint64_t kService = 0x0106'1234;

  /// The engine and with it all applications end.
  void crash();
  void restart();
  /// The engine is to look for work.
  void kick();
  /// Sends what the communication manager wants to say, and tells its client what has happened.
  void pump();

  void on_event(uint64_t what, base::TimeNs now) override;
  void on_placement() noexcept override { observe(); }
  void observe() noexcept;

 private:
  void on_arrival() override { kick(); }
  bool on_mad(const wire::IpAddress& source, const wire::IpAddress& destination,
              std::span<const std::byte> mad) noexcept override;
  void schedule(base::TimeNs time);
  void create_engine();

  struct Mad {
    wire::IpAddress source;
    wire::IpAddress destination;
    std::array<std::byte, wire::kMadBytes> bytes;
  };

  Surroundings& around_;
  uint32_t number_;
  CmClient& client_;
  Random random_;
  base::TimeNs step_ns_;  ///< what one round takes
  uint64_t peer_window_bytes_;
  Random engine_random_;
  NetworkPort network_;
  std::unique_ptr<port::Port> local_;
  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<cm::Manager> manager_;
  std::vector<std::unique_ptr<Application>> applications_;
  std::deque<Mad> mads_;
  base::TimeNs scheduled_ = base::kNever;
  base::TimeNs free_at_ = 0;  ///< the worker's round is over
};

}  // namespace flexins::sim
