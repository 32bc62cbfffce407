#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "wire/address.h"

/// The RDMA IP CM service (InfiniBand Architecture Specification volume 1, annex A11): how IP
/// addresses and ports travel in messages of the communication manager.

namespace flexins::wire {

/// IP protocol numbers that stand for port spaces.
enum class IpCmSpace : uint8_t { kTcp = 0x06, kUdp = 0x11 };

/// The service id of `port` in `space`: 0x0000'0000'01 · space · port.
[[nodiscard]] uint64_t ip_cm_service_id(IpCmSpace space, uint16_t port) noexcept;

struct IpCmService {
  IpCmSpace space = IpCmSpace::kTcp;
  uint16_t port = 0;
};
/// The inverse; nothing for other service ids.
[[nodiscard]] std::optional<IpCmService> parse_ip_cm_service(uint64_t service_id) noexcept;

inline constexpr size_t kIpCmHeaderBytes = 36;

/// The front of the private data of a REQ or SIDR_REQ; the user's follow.
struct IpCmHeader {
  uint16_t source_port = 0;
  IpAddress source;
  IpAddress destination;

  friend bool operator==(const IpCmHeader&, const IpCmHeader&) = default;
};

/// False when `bytes` is too short, of another version or of no IP version. Bits that are reserved
/// are ignored.
[[nodiscard]] bool parse_ip_cm(std::span<const uint8_t> bytes, IpCmHeader& out) noexcept;
/// Both addresses are of one family.
void emit_ip_cm(const IpCmHeader& header, std::span<uint8_t, kIpCmHeaderBytes> out) noexcept;

}  // namespace flexins::wire
