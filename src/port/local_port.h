#pragma once

#include <cstdint>
#include <memory>

#include "port/port.h"

namespace flexins::port {

/// Packets between QPs of the same engine. Nothing is copied: a received packet's header and pieces
/// *are* the sent packet's, so the sender drains receive() (until it returns 0) before it reuses
/// the TxPackets or the memory that they name. There is no wire, hence no ICRC; a packet marked
/// `corrupt` is dropped as a checking port would drop it.
class LocalPort final : public Port {
 public:
  /// `depth`: packets that may be under way, > 0. transmit() takes no more than that.
  explicit LocalPort(uint32_t depth = 1024);

  size_t transmit(std::span<wire::TxPacket> burst, base::TimeNs now) noexcept override;
  size_t receive(std::span<wire::RxPacket> burst, base::TimeNs now) noexcept override;
  void observe_drops(DropObserver* observer) override { observer_ = observer; }

  [[nodiscard]] Capabilities capabilities() const override;
  [[nodiscard]] std::vector<Counter> counters() const override;
  [[nodiscard]] std::string_view name() const override { return "local"; }

 private:
  /// A sent packet, and enough of it to notice that its owner wrote over it too early.
  struct Entry {
    const wire::TxPacket* packet;
    const wire::Path* path;
    uint32_t payload_length;
    uint32_t psn_word;
  };

  std::unique_ptr<Entry[]> queue_;
  uint32_t depth_;
  uint32_t first_ = 0;
  uint32_t count_ = 0;
  DropObserver* observer_ = nullptr;
  uint64_t packets_ = 0;
  uint64_t bytes_ = 0;
  uint64_t icrc_wrong_ = 0;
};

}  // namespace flexins::port
