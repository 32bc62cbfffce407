#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

/// Blocks of the pcapng capture format (draft-ietf-opsawg-pcapng), one section, one interface of
/// link type "raw IP", in this machine's byte order.

namespace flexins::port::pcapng {

inline constexpr uint32_t kMaxCommentBytes = 128;
/// What a packet block takes beyond the packet's own bytes.
inline constexpr size_t kPacketOverheadBytes = 64 + kMaxCommentBytes;
inline constexpr size_t kFileHeaderBytes = 128;
inline constexpr size_t kStatisticsBytes = 64;

enum class Direction : uint32_t { kInbound = 1, kOutbound = 2 };

/// Section header and interface description. Returns bytes written; `out` holds kFileHeaderBytes.
size_t write_file_header(std::span<std::byte> out);

/// Begins a packet block; the packet's bytes go to the returned offset of `out`.
[[nodiscard]] size_t packet_offset();
/// Ends it. `length` bytes of the packet stand at packet_offset(), of `original_length` that it
/// had; `time_ns` since 1970. A longer comment is cut. Returns the block's bytes; `out` holds
/// length + kPacketOverheadBytes.
size_t write_packet(std::span<std::byte> out, uint32_t length, uint32_t original_length,
                    uint64_t time_ns, Direction direction, std::string_view comment) noexcept;

/// Interface statistics: packets seen and packets that did not make it into the file. Returns bytes
/// written; `out` holds kStatisticsBytes.
size_t write_statistics(std::span<std::byte> out, uint64_t time_ns, uint64_t received,
                        uint64_t dropped);

}  // namespace flexins::port::pcapng
