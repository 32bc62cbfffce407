#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "port/port.h"
#include "port/shm_ring.h"

namespace flexins::port {

/// A way to one address of another engine on this machine. Memory and descriptor outlive the way.
struct ShmWay {
  wire::IpAddress local;   ///< ours; packets that come are taken to be for it …
  wire::IpAddress remote;  ///< … and to be from here, whatever the other side would like
  ShmRingLayout* outgoing = nullptr;
  ShmRingLayout* incoming = nullptr;
  int wake_fd = -1;  ///< the other engine's eventfd, not blocking
};

/// Packets between engines of one machine through shared memory; all others go through the port
/// that this one wraps. Payload is copied into the ring and, by the engine, out of it. There is no
/// ICRC: nothing between the two can change a bit, and who could could write the ICRC too.
class ShmPort final : public Port {
 public:
  /// Ways at once. Each is looked at by every receive.
  static constexpr size_t kWaysMax = 64;

  /// `inner` outlives this.
  explicit ShmPort(Port& inner) : inner_(inner) {}

  /// From now on packets between the two addresses go this way. Control path, between calls of
  /// transmit and receive. Errors: ENOSPC at kWaysMax, EEXIST where there is a way already.
  base::Result<void> add(const ShmWay& way);
  /// Ends what add() began; what was under way is lost, as on any network.
  void remove(const wire::IpAddress& local, const wire::IpAddress& remote);

  size_t transmit(std::span<wire::TxPacket> burst, base::TimeNs now) noexcept override;
  size_t receive(std::span<wire::RxPacket> burst, base::TimeNs now) noexcept override;
  base::Result<void> listen() override { return inner_.listen(); }
  void stop_listening() override { inner_.stop_listening(); }
  base::Result<void> join(const wire::IpAddress& group) override { return inner_.join(group); }
  void leave(const wire::IpAddress& group) override { inner_.leave(group); }
  void note_dropped(const wire::RxPacket& packet, std::string_view reason) noexcept override {
    inner_.note_dropped(packet, reason);
  }
  void observe_drops(DropObserver* observer) override;
  [[nodiscard]] std::vector<int> poll_fds() const override { return inner_.poll_fds(); }
  [[nodiscard]] base::TimeNs next_event() const override { return inner_.next_event(); }
  [[nodiscard]] Capabilities capabilities() const override { return inner_.capabilities(); }
  /// The inner port's, and ours with the prefix shm_.
  [[nodiscard]] std::vector<Counter> counters() const override;
  [[nodiscard]] std::string_view name() const override { return inner_.name(); }

 private:
  struct Way {
    explicit Way(const ShmWay& way) : terms(way), sender(*way.outgoing), receiver(*way.incoming) {}
    [[nodiscard]] bool broken() const { return sender.broken() || receiver.broken(); }
    ShmWay terms;
    ShmSender sender;
    ShmReceiver receiver;
  };

  [[nodiscard]] Way* find(const wire::Path& path) noexcept;
  size_t send(Way& way, std::span<wire::TxPacket> run, base::TimeNs now) noexcept;
  void drop(const wire::TxPacket& packet, uint64_t& count, std::string_view reason,
            base::TimeNs now) noexcept;
  size_t receive_from_ways(std::span<wire::RxPacket> burst) noexcept;

  Port& inner_;
  std::vector<std::unique_ptr<Way>> ways_;
  size_t next_way_ = 0;  ///< whose turn it is to be received from
  base::TimeNs inner_due_ = 0;
  DropObserver* observer_ = nullptr;
  uint64_t packets_sent_ = 0, bytes_sent_ = 0, packets_received_ = 0, bytes_received_ = 0;
  uint64_t wakeups_ = 0, full_ = 0, corrupt_ = 0, memory_gone_ = 0, broken_ = 0;
};

}  // namespace flexins::port
