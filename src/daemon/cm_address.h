#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/result.h"
#include "wire/address.h"

struct sockaddr_storage;

namespace flexins::daemon {

/// An IP address and a port, as programs name the ends of a connection.
struct CmAddress {
  wire::IpAddress ip;
  uint16_t port = 0;
  bool v6 = false;

  /// The address part is zeros: whichever.
  [[nodiscard]] bool any() const;
  /// In 127.0.0.0/8, or ::1.
  [[nodiscard]] bool loopback() const;
  friend bool operator==(const CmAddress&, const CmAddress&) = default;
};

/// Reads a sockaddr_in or sockaddr_in6; nothing for other families and what is too short.
[[nodiscard]] std::optional<CmAddress> read_sockaddr(std::span<const std::byte> bytes);
/// Writes it as a sockaddr_in or sockaddr_in6; returns its size. `out` holds a sockaddr_in6.
size_t write_sockaddr(const CmAddress& address, void* out);

/// Whether two that are bound to one port would both be meant by one packet.
[[nodiscard]] bool overlap(const CmAddress& a, const CmAddress& b);

/// From which of a host's addresses packets leave to where.
class RouteFinder {
 public:
  virtual ~RouteFinder() = default;
  /// Errors: ENETUNREACH, EHOSTUNREACH and what else connect() says.
  virtual base::Result<wire::IpAddress> source_for(const wire::IpAddress& destination) = 0;
};

/// Asks the kernel's routing table.
class KernelRoutes final : public RouteFinder {
 public:
  base::Result<wire::IpAddress> source_for(const wire::IpAddress& destination) override;
};

}  // namespace flexins::daemon
