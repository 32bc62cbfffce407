#include <algorithm>
#include <cerrno>

#include "engine/engine_impl.h"

/// Queue pair 1: management datagrams in and out. Rare, and not for applications.

namespace flexins::engine {

namespace {

/// The whole payload of `packet` into `out`, if it is as long as that.
bool copy_payload(const wire::RxPacket& packet, const wire::Headers& headers, size_t header_length,
                  std::span<std::byte> out) {
  if (packet.piece_count == 0) {
    const auto* begin = packet.bytes + header_length;
    if (packet.length != header_length + headers.bth.pad_count + out.size()) return false;
    std::copy_n(begin, out.size(), out.begin());
    return true;
  }
  size_t at = 0;
  for (uint32_t i = 0; i < packet.piece_count; ++i) {
    const iovec& piece = packet.pieces[i];
    if (piece.iov_len > out.size() - at) return false;
    std::copy_n(static_cast<const std::byte*>(piece.iov_base), piece.iov_len, out.begin() + at);
    at += piece.iov_len;
  }
  return at == out.size();
}

}  // namespace

void EngineImpl::deliver_management(const wire::RxPacket& packet, const wire::Headers& headers,
                                    size_t header_length) {
  if (headers.bth.opcode != wire::Opcode::kUdSendOnly) {
    ++counters_.drop_mad_opcode;
    return;
  }
  if (headers.deth.qkey != wire::kManagementQkey) {
    ++counters_.drop_mad_qkey;
    return;
  }
  std::array<std::byte, wire::kMadBytes> mad;
  if (!copy_payload(packet, headers, header_length, mad)) {
    ++counters_.drop_mad_length;
    return;
  }
  if (config_.management == nullptr ||
      !config_.management->on_mad(packet.source, packet.destination, mad)) {
    ++counters_.drop_mad_refused;
    return;
  }
  ++counters_.mads_received;
}

base::Result<void> EngineImpl::send_mad(const wire::Path& path, std::span<const std::byte> mad,
                                        base::TimeNs now) {
  FLEXINS_CHECK(mad.size() == wire::kMadBytes);
  const auto is_ours = [this](const wire::IpAddress& address) {
    return std::any_of(config_.addresses.begin(), config_.addresses.end(),
                       [&](const LocalAddress& local) { return local.address == address; });
  };
  if (!is_ours(path.source)) return base::Error{EADDRNOTAVAIL, "not an address of this engine"};
  port::Port* port = is_ours(path.destination) ? config_.local : config_.network;
  if (port == nullptr) return base::Error{ENETUNREACH, "this engine has no network"};
  management_path_ = path;
  std::copy(mad.begin(), mad.end(), management_bytes_.begin());
  wire::Headers headers;
  headers.bth.opcode = wire::Opcode::kUdSendOnly;
  headers.bth.destination = base::Qpn{wire::kManagementQpn};
  headers.bth.ack_request = true;  // as Soft-RoCE has it; datagrams are never acknowledged
  headers.bth.psn = management_psn_;
  headers.deth.qkey = wire::kManagementQkey;
  headers.deth.source = base::Qpn{wire::kManagementQpn};
  wire::TxPacket& packet = management_packet_;
  packet.path = &management_path_;
  packet.header_length = static_cast<uint16_t>(wire::emit(headers, packet.header));
  packet.pad_count = 0;
  packet.corrupt = false;
  packet.piece_count = 1;
  packet.payload_length = wire::kMadBytes;
  packet.pieces[0] = {management_bytes_.data(), management_bytes_.size()};
  if (port->transmit({&packet, 1}, now) != 1) {
    ++counters_.drop_mad_port_full;
    return base::Error{EAGAIN, "the port is full"};
  }
  ++management_psn_;
  ++counters_.mads_sent;
  // What a local port remembers points into this object: it is to be delivered before the next.
  if (port == config_.local) {
    while (receive(*config_.local, now)) {
    }
  }
  return {};
}

}  // namespace flexins::engine
