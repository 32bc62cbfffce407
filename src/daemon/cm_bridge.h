#pragma once

#include <array>
#include <atomic>
#include <memory>

#include "base/unique_fd.h"
#include "engine/engine.h"
#include "wire/mad.h"

namespace flexins::daemon {

/// Carries management datagrams from the worker to the control thread, where the communication
/// manager is. Bounded; neither side ever waits.
class CmBridge final : public engine::ManagementSink {
 public:
  struct Mad {
    wire::IpAddress source;
    wire::IpAddress destination;
    std::array<std::byte, wire::kMadBytes> bytes;
  };

  /// Throws std::system_error.
  CmBridge();

  bool on_mad(const wire::IpAddress& source, const wire::IpAddress& destination,
              std::span<const std::byte> mad) noexcept override;

  /// Control thread: the next one, if there is one.
  [[nodiscard]] bool take(Mad& out) noexcept;
  /// Readable when there is something to take; take() until nothing is left, after clear().
  [[nodiscard]] int descriptor() const { return event_.get(); }
  void clear() noexcept;

 private:
  static constexpr uint32_t kDepth = 1024;

  base::UniqueFd event_;
  std::unique_ptr<Mad[]> ring_;
  std::atomic<uint32_t> written_{0};
  std::atomic<uint32_t> read_{0};
};

}  // namespace flexins::daemon
