#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "base/result.h"
#include "port/port.h"

namespace flexins::port {

/// Probabilities are per packet, 0 to 1, and independent of each other.
struct FaultConfig {
  double loss = 0;
  double duplication = 0;
  double reordering = 0;  ///< overtaken by the next 1 … 8 packets, held for 1 ms at most
  double corruption = 0;
  double delay = 0;
  base::TimeNs delay_min_ns = 100 * base::kMicrosecond;
  base::TimeNs delay_max_ns = base::kMillisecond;
  uint64_t seed = 1;  ///< the same seed and packets give the same faults
};

/// Spoils what is transmitted through the port below; what is received passes untouched. What
/// happens to the n-th packet since set() depends on the seed and n only. Held packets are copied,
/// into storage for kSlots of them; when it is full a packet goes unspoiled and is counted.
class FaultPort final : public Port {
 public:
  static constexpr uint32_t kSlots = 256;

  /// `inner` outlives this port. No faults until set().
  explicit FaultPort(Port& inner);
  ~FaultPort() override;

  /// From the next packet on. EINVAL for a probability outside 0 … 1 or a delay beyond 10 s.
  /// Control path; between calls of transmit and receive.
  base::Result<void> set(const FaultConfig& config);
  [[nodiscard]] const FaultConfig& config() const { return config_; }

  size_t transmit(std::span<wire::TxPacket> burst, base::TimeNs now) noexcept override;
  size_t receive(std::span<wire::RxPacket> burst, base::TimeNs now) noexcept override;
  void note_dropped(const wire::RxPacket& packet, std::string_view reason) noexcept override {
    inner_.note_dropped(packet, reason);
  }
  void observe_drops(DropObserver* observer) override;

  base::Result<void> join(const wire::IpAddress& group) override { return inner_.join(group); }
  void leave(const wire::IpAddress& group) override { inner_.leave(group); }
  [[nodiscard]] std::vector<int> poll_fds() const override { return inner_.poll_fds(); }
  [[nodiscard]] base::TimeNs next_event() const override;
  [[nodiscard]] Capabilities capabilities() const override { return inner_.capabilities(); }
  /// The inner port's, and how often each fault was done.
  [[nodiscard]] std::vector<Counter> counters() const override;
  [[nodiscard]] std::string_view name() const override { return inner_.name(); }

 private:
  enum Kind : uint8_t { kLoss, kDuplication, kReordering, kCorruption, kDelay, kKinds };
  struct Fate {
    std::array<bool, kKinds> has{};
    uint64_t amount = 0;  ///< random; how long or how far
    [[nodiscard]] bool clean() const;
  };
  struct Slot;
  /// A list of slot numbers, bounded.
  struct SlotList {
    std::array<uint16_t, kSlots> slots;
    uint32_t count = 0;
    void add(uint16_t slot) { slots[count++] = slot; }
  };

  [[nodiscard]] Fate fate_of(uint64_t sequence) const noexcept;
  bool apply(const Fate& fate, wire::TxPacket& packet, base::TimeNs now) noexcept;
  bool hold(const Fate& fate, const wire::TxPacket& packet, base::TimeNs now) noexcept;
  bool send_one(wire::TxPacket& packet, base::TimeNs now) noexcept;
  void release(base::TimeNs now) noexcept;
  bool send_held(Slot& slot, base::TimeNs now) noexcept;
  void lose(const wire::TxPacket& packet, std::string_view reason, base::TimeNs now) noexcept;

  Port& inner_;
  FaultConfig config_;
  /// Of 2^64; a draw below it does the fault.
  std::array<uint64_t, kKinds> thresholds_{};
  bool active_ = false;
  uint64_t sequence_ = 0;  ///< packets taken since set()

  std::unique_ptr<Slot[]> slots_;
  SlotList free_;
  SlotList held_;  ///< in the order in which they were held
  /// Sent, but the inner port may refer to them until what it holds was received (local port):
  /// until a receive found it drained, and then until the receive after that.
  SlotList in_transit_;
  SlotList settled_;
  uint64_t next_release_sequence_ = UINT64_MAX;
  base::TimeNs next_release_ = base::kNever;

  DropObserver* observer_ = nullptr;
  std::array<uint64_t, kKinds> done_{};
  uint64_t no_room_ = 0;
  uint64_t memory_gone_ = 0;
};

}  // namespace flexins::port
