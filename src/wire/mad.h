#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

/// Management datagrams (InfiniBand Architecture Specification volume 1, chapter 13): what travels
/// between the general services interfaces, queue pair 1 of each port.

namespace flexins::wire {

inline constexpr size_t kMadBytes = 256;
inline constexpr size_t kMadHeaderBytes = 24;
/// The queue pair of the general services interface, and the Q_Key of all its packets.
inline constexpr uint32_t kManagementQpn = 1;
inline constexpr uint32_t kManagementQkey = 0x8001'0000;

inline constexpr uint8_t kMadBaseVersion = 1;
inline constexpr uint8_t kMadClassCm = 0x07;
inline constexpr uint8_t kMadClassCmVersion = 2;
inline constexpr uint8_t kMadMethodSend = 0x03;

/// The common header of all MADs, 24 bytes.
struct MadHeader {
  uint8_t base_version = kMadBaseVersion;
  uint8_t management_class = 0;
  uint8_t class_version = 0;
  uint8_t method = 0;
  uint16_t status = 0;
  uint16_t class_specific = 0;
  uint64_t transaction = 0;
  uint16_t attribute = 0;
  uint16_t reserved = 0;
  uint32_t modifier = 0;
};

/// Reads the header of `mad`.
void parse_mad_header(std::span<const std::byte, kMadBytes> mad, MadHeader& out) noexcept;
void emit_mad_header(const MadHeader& header, std::span<std::byte, kMadBytes> out) noexcept;

}  // namespace flexins::wire
