#include "port/capture_port.h"

#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/fault_guard.h"
#include "wire/icrc.h"

namespace flexins::port {

namespace {

size_t ip_and_udp_bytes(const wire::IpAddress& destination) {
  return (destination.is_v4() ? wire::kIpv4HeaderBytes : wire::kIpv6HeaderBytes) +
         wire::kUdpHeaderBytes;
}

uint64_t now_on_the_wall() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * base::kSecond + static_cast<uint64_t>(now.tv_nsec);
}

/// Appends the ICRC to a packet of `length` bytes.
void append_icrc(const wire::DatagramHeaders& headers, std::byte* transport, size_t length) {
  const uint32_t icrc =
      wire::icrc_finish(wire::icrc_begin(wire::outer_headers(headers), {transport, length}));
  for (size_t i = 0; i < kIcrcBytes; ++i) {
    transport[length + i] = static_cast<std::byte>(icrc >> (8 * i));
  }
}

}  // namespace

CapturePort::CapturePort(Port& inner) : inner_(inner) { inner_.observe_drops(this); }

CapturePort::~CapturePort() {
  // Whoever owned the last received packets may be gone by now.
  received_count_ = 0;
  static_cast<void>(stop());
  inner_.observe_drops(nullptr);
}

base::Result<void> CapturePort::start(const std::string& path) {
  if (file_ != nullptr) {
    return base::Error{EBUSY, "a capture is running; stop it first (`flexins capture stop`)"};
  }
  auto file = CaptureFile::create(path);
  if (!file) return file.error();
  base::install_fault_guard();
  packets_ = missed_ = 0;
  has_clock_ = false;
  received_count_ = 0;
  std::array<std::byte, pcapng::kFileHeaderBytes> header;
  const size_t length = pcapng::write_file_header(header);
  if (!(*file)->append(std::span(header).first(length))) {
    return base::Error{EIO, "cannot write the capture file " + path};
  }
  file_ = std::move(*file);
  return {};
}

base::Result<void> CapturePort::stop() {
  if (file_ == nullptr) return base::Error{ENOENT, "no capture is running"};
  write_received();
  std::array<std::byte, pcapng::kStatisticsBytes> statistics;
  const size_t length =
      pcapng::write_statistics(statistics, now_on_the_wall(), packets_ + missed_, missed_);
  const bool appended = file_->append(std::span(statistics).first(length));
  const int error = file_->finish();
  file_ = nullptr;
  if (error != 0) {
    return base::Error{error, std::string("the capture is incomplete: ") + strerror(error)};
  }
  if (!appended) ++missed_;
  return {};
}

size_t CapturePort::transmit(std::span<wire::TxPacket> burst, base::TimeNs now) noexcept {
  if (file_ == nullptr) return inner_.transmit(burst, now);
  write_received();
  sending_ = burst;
  sent_count_ = 0;
  const size_t taken = inner_.transmit(burst, now);
  for (const wire::TxPacket& packet : burst.first(taken)) {
    std::string_view reason;
    for (size_t i = 0; i < sent_count_; ++i) {
      if (sent_notes_[i].packet == &packet) reason = sent_notes_[i].reason;
    }
    write_sent(packet, reason, now);
  }
  sending_ = {};
  return taken;
}

size_t CapturePort::receive(std::span<wire::RxPacket> burst, base::TimeNs now) noexcept {
  if (file_ == nullptr) return inner_.receive(burst, now);
  write_received();
  const size_t n = inner_.receive(burst, now);
  received_first_ = burst.data();
  received_at_ = now;
  received_count_ = std::min(n, kNotes);
  for (size_t i = 0; i < received_count_; ++i) received_[i] = {burst[i], {}};
  for (size_t i = received_count_; i < n; ++i) write_arrived(burst[i], false, {}, now);
  return n;
}

void CapturePort::note_dropped(const wire::RxPacket& packet, std::string_view reason) noexcept {
  inner_.note_dropped(packet, reason);
  if (file_ == nullptr || &packet < received_first_) return;
  const auto index = static_cast<size_t>(&packet - received_first_);
  if (index < received_count_) received_[index].reason = reason;
}

void CapturePort::transmit_dropped(const wire::TxPacket& packet, std::string_view reason,
                                   base::TimeNs now) noexcept {
  if (next_observer_ != nullptr) next_observer_->transmit_dropped(packet, reason, now);
  if (file_ == nullptr) return;
  const bool in_burst = !sending_.empty() && &packet >= sending_.data() &&
                        &packet < sending_.data() + sending_.size();
  if (!in_burst) {
    write_sent(packet, reason, now);
  } else if (sent_count_ < kNotes) {
    sent_notes_[sent_count_++] = {&packet, reason};
  }
}

void CapturePort::receive_dropped(const wire::RxPacket& packet, std::string_view reason,
                                  base::TimeNs now) noexcept {
  if (next_observer_ != nullptr) next_observer_->receive_dropped(packet, reason, now);
  if (file_ != nullptr) write_arrived(packet, true, reason, now);
}

void CapturePort::write_received() noexcept {
  for (size_t i = 0; i < received_count_; ++i) {
    write_arrived(received_[i].packet, false, received_[i].reason, received_at_);
  }
  received_count_ = 0;
}

void CapturePort::write_sent(const wire::TxPacket& packet, std::string_view comment,
                             base::TimeNs now) noexcept {
  const wire::Path& path = *packet.path;
  const size_t length = transport_bytes(packet) - kIcrcBytes;
  if (length > kMaxTransportBytes) return;
  std::byte* const transport =
      block_.data() + pcapng::packet_offset() + ip_and_udp_bytes(path.destination);
  std::memcpy(transport, packet.header.data(), packet.header_length);
  std::memset(transport + packet.header_length, 0, length - packet.header_length);
  const bool readable = base::guarded([transport, &packet] {
    wire::copy_pieces(wire::pieces_of(packet), transport + packet.header_length);
  });
  const wire::DatagramHeaders headers = {
      .source = path.source,
      .destination = path.destination,
      .traffic_class = path.traffic_class,
      .hop_limit = path.hop_limit,
      .source_port = path.source_port,
      .payload_bytes = static_cast<uint16_t>(length + kIcrcBytes)};
  append_icrc(headers, transport, length);
  if (!readable && comment.empty()) comment = "memory gone";
  write_block(headers, length + kIcrcBytes, pcapng::Direction::kOutbound, comment, now);
}

void CapturePort::write_arrived(const wire::RxPacket& packet, bool has_icrc,
                                std::string_view comment, base::TimeNs now) noexcept {
  std::byte* const transport =
      block_.data() + pcapng::packet_offset() + ip_and_udp_bytes(packet.destination);
  std::memcpy(transport, packet.bytes, packet.length);
  size_t length = packet.length;
  const bool readable = base::guarded([transport, &packet] {
    wire::copy_pieces(wire::pieces_of(packet), transport + packet.length);
  });
  for (size_t i = 0; i < packet.piece_count; ++i) length += packet.pieces[i].iov_len;
  // Pieces come without the pad.
  while (packet.piece_count > 0 && length % 4 != 0) transport[length++] = std::byte{0};
  wire::DatagramHeaders headers = {
      .source = packet.source,
      .destination = packet.destination,
      .traffic_class = packet.traffic_class,
      .source_port = packet.source_port,
      .payload_bytes = static_cast<uint16_t>(length + (has_icrc ? 0 : kIcrcBytes))};
  if (!has_icrc) {
    append_icrc(headers, transport, length);
    length += kIcrcBytes;
  }
  if (!readable && comment.empty()) comment = "memory gone";
  write_block(headers, length, pcapng::Direction::kInbound, comment, now);
}

void CapturePort::write_block(const wire::DatagramHeaders& headers, size_t transport_length,
                              pcapng::Direction direction, std::string_view comment,
                              base::TimeNs now) noexcept {
  const size_t outer =
      wire::emit_datagram(headers, std::span(block_).subspan(pcapng::packet_offset()));
  const auto length = static_cast<uint32_t>(outer + transport_length);
  const size_t block =
      pcapng::write_packet(block_, length, length, wall_clock(now), direction, comment);
  ++(file_->append(std::span(block_).first(block)) ? packets_ : missed_);
}

uint64_t CapturePort::wall_clock(base::TimeNs now) noexcept {
  if (!has_clock_) {
    clock_offset_ = now_on_the_wall() - now;
    has_clock_ = true;
  }
  return now + clock_offset_;
}

std::vector<Counter> CapturePort::counters() const {
  std::vector<Counter> all = inner_.counters();
  all.insert(all.end(), {{"capture_packets", packets_}, {"capture_missed", missed_}});
  return all;
}

}  // namespace flexins::port
