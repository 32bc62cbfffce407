#include <algorithm>
#include <cstring>

#include "transport/request_opcode.h"
#include "transport/requester.h"

/// One packet of a request.

namespace flexins::transport {

using base::WrOpcode;
using wire::Opcode;

namespace {

/// Far below what 24-bit PSNs tell apart, whatever the configuration says.
constexpr uint32_t kMaxReadChunkPackets = 1u << 16;

}  // namespace

uint32_t Requester::read_chunk_packets() const noexcept {
  return std::clamp(core_.config.read_chunk_bytes / core_.mtu_bytes, 1u, kMaxReadChunkPackets);
}

uint64_t Requester::read_chunk_end(const SendEntry& entry, uint64_t psn) const noexcept {
  const uint64_t chunk = read_chunk_packets();
  const uint64_t end = entry.first_psn + ((psn - entry.first_psn) / chunk + 1) * chunk;
  return std::min(end, entry.end_psn());
}

Requester::Segment Requester::segment_at(const SendEntry& entry, uint64_t psn) const noexcept {
  Segment segment;
  segment.offset = (psn - entry.first_psn) * core_.mtu_bytes;
  if (entry.is_read()) {
    segment.packets = static_cast<uint32_t>(read_chunk_end(entry, psn) - psn);
  }
  segment.length = static_cast<uint32_t>(std::min<uint64_t>(
      entry.length - segment.offset, uint64_t{segment.packets} * core_.mtu_bytes));
  segment.first = psn == entry.first_psn;
  segment.last = psn + segment.packets == entry.end_psn();
  return segment;
}

memory::AccessResult Requester::build_payload(const SendEntry& entry, const Segment& segment,
                                              wire::TxPacket& out) noexcept {
  if (entry.is_read() || entry.is_atomic() || segment.length == 0) {
    return memory::AccessResult::kDone;
  }
  if ((entry.flags & base::kSendInline) == 0) {
    return gather_sges(domain(), queue_.sges(cursor_), segment.offset, segment.length, out,
                       core_.counters.payload_bytes_staged);
  }
  // Not referenced in place: a local port reads the payload when this queue may be gone.
  std::memcpy(out.staging, queue_.inline_bytes(cursor_) + segment.offset, segment.length);
  out.pieces[0] = iovec{out.staging, segment.length};
  out.piece_count = 1;
  out.payload_length = segment.length;
  core_.counters.payload_bytes_staged += segment.length;
  return memory::AccessResult::kDone;
}

void Requester::build_headers(const SendEntry& entry, const Segment& segment,
                              wire::Headers& headers) const noexcept {
  headers.bth.psn = base::Psn(static_cast<uint32_t>(next_psn_));
  headers.xrceth.srqn = entry.remote_srqn;
  if (entry.is_atomic()) {
    const bool swap = entry.opcode == WrOpcode::kCompareSwap;
    headers.bth.opcode = swap ? Opcode::kRcCompareSwap : Opcode::kRcFetchAdd;
    headers.atomic = {.address = entry.remote_address,
                      .key = entry.remote_key,
                      .swap_add = swap ? entry.swap : entry.compare_add,
                      .compare = swap ? entry.compare_add : 0};
    return;
  }
  if (entry.is_read()) {
    headers.bth.opcode = Opcode::kRcReadRequest;
    headers.reth = {.address = entry.remote_address + segment.offset,
                    .key = entry.remote_key,
                    .length = segment.length};
    return;
  }
  headers.bth.opcode = request_opcode(entry.opcode, segment.first, segment.last);
  headers.bth.solicited = segment.last && (entry.flags & base::kSendSolicited) != 0;
  headers.reth = {.address = entry.remote_address, .key = entry.remote_key, .length = entry.length};
  headers.immediate = headers.invalidate_key = entry.immediate;
}

}  // namespace flexins::transport
