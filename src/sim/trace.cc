#include "sim/trace.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "port/pcapng.h"

namespace flexins::sim {

namespace pcapng = port::pcapng;

void Trace::note_frame(const Frame& frame, base::TimeNs now) {
  // The ICRC stands for all that it covers; the rest is said here.
  uint32_t icrc = 0;
  std::memcpy(&icrc, frame.bytes.data() + frame.length - kIcrcBytes, sizeof icrc);
  uint64_t head = 0;
  std::memcpy(&head, frame.bytes.data(), sizeof head);
  note(now, head, uint64_t{icrc} << 32 | frame.length,
       uint64_t{frame.from_host} << 32 | uint64_t{frame.to_host} << 16 | frame.traffic_class);
}

base::Result<std::unique_ptr<FrameFile>> FrameFile::create(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) return base::Error{errno, path + ": " + std::strerror(errno)};
  std::array<std::byte, pcapng::kFileHeaderBytes> header;
  std::fwrite(header.data(), 1, pcapng::write_file_header(header), file);
  return std::unique_ptr<FrameFile>(new FrameFile(file));
}

FrameFile::~FrameFile() { std::fclose(static_cast<std::FILE*>(file_)); }

void FrameFile::write(const Frame& frame, base::TimeNs now, bool inbound, const char* comment) {
  std::array<std::byte, pcapng::kPacketOverheadBytes + sizeof(Frame) + wire::kIpv6HeaderBytes +
                            wire::kUdpHeaderBytes>
      block;
  std::byte* packet = block.data() + pcapng::packet_offset();
  const wire::DatagramHeaders outer = frame.outer();
  const size_t headers = wire::emit_datagram(outer, {packet, wire::datagram_header_bytes(outer)});
  std::memcpy(packet + headers, frame.bytes.data(), frame.length);
  const auto length = static_cast<uint32_t>(headers + frame.length);
  const size_t bytes = pcapng::write_packet(
      block, length, length, now,
      inbound ? pcapng::Direction::kInbound : pcapng::Direction::kOutbound, comment);
  std::fwrite(block.data(), 1, bytes, static_cast<std::FILE*>(file_));
}

}  // namespace flexins::sim
