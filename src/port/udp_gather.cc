#include "port/udp_gather.h"

#include <cstring>

#include "base/check.h"
#include "base/fault_guard.h"

namespace flexins::port {

namespace {

wire::OuterHeaders outer_of(const wire::TxPacket& packet, uint16_t source_port,
                            uint16_t identification) {
  return {.source = packet.path->source,
          .destination = packet.path->destination,
          .source_port = source_port,
          .transport_bytes = static_cast<uint16_t>(transport_bytes(packet)),
          .identification = identification};
}

}  // namespace

UdpGather::UdpGather(bool with_icrc, uint32_t copy_payload_bytes)
    : linear_(new std::byte[kMaxDatagramBytes + kMaxTransportBytes]),
      iovecs_(new iovec[kIovecs]),
      with_icrc_(with_icrc),
      copy_payload_bytes_(copy_payload_bytes) {}

void UdpGather::begin(bool joined, uint16_t source_port) noexcept {
  run_begin_ = linear_end_ = iovec_count_ = segments_ = bytes_ = 0;
  first_iovec_[0] = 0;
  joined_ = joined;
  source_port_ = source_port;
}

UdpGather::Added UdpGather::add(const wire::TxPacket& packet) noexcept {
  const size_t length = transport_bytes(packet);
  // A run before each piece and one at the end.
  const size_t iovecs_needed = 2 * size_t{packet.piece_count} + 2;
  if (segments_ == kMaxSegments || bytes_ + length > kMaxDatagramBytes ||
      iovec_count_ + iovecs_needed > kIovecs) {
    return Added::kFull;
  }
  size_t pieces_length = 0;
  for (size_t i = 0; i < packet.piece_count; ++i) pieces_length += packet.pieces[i].iov_len;
  FLEXINS_CHECK(pieces_length == packet.payload_length && length <= kMaxTransportBytes);
  const size_t run_begin = run_begin_, linear_end = linear_end_, iovec_count = iovec_count_;
  // The pieces belong to an application, which may take them away while they are read.
  const bool readable = base::guarded([this, &packet] { append(packet); });
  if (!readable) {
    run_begin_ = run_begin;
    linear_end_ = linear_end;
    iovec_count_ = iovec_count;
    return Added::kMemoryGone;
  }
  if (!joined_) close_run();
  bytes_ += length;
  first_iovec_[++segments_] = static_cast<uint16_t>(iovec_count_);
  return Added::kYes;
}

void UdpGather::append(const wire::TxPacket& packet) noexcept {
  const std::span header(linear_.get() + linear_end_, packet.header_length);
  std::memcpy(header.data(), packet.header.data(), header.size());
  linear_end_ += header.size();
  if (with_icrc_) {
    const uint16_t identification = joined_ ? static_cast<uint16_t>(segments_) : 0;
    running_icrc_ = wire::icrc_begin(outer_of(packet, source_port_, identification), header);
  }
  if (packet.payload_length <= copy_payload_bytes_) {
    append_copied(packet);
  } else {
    append_referenced(packet);
  }
  append_trailer(packet);
}

void UdpGather::append_copied(const wire::TxPacket& packet) noexcept {
  const size_t begin = linear_end_;
  for (size_t i = 0; i < packet.piece_count; ++i) {
    const iovec& piece = packet.pieces[i];
    std::memcpy(linear_.get() + linear_end_, piece.iov_base, piece.iov_len);
    linear_end_ += piece.iov_len;
  }
  const size_t length = linear_end_ - begin;
  copied_ += length;
  if (with_icrc_) {
    running_icrc_ = wire::icrc_add(running_icrc_, {linear_.get() + begin, length});
  }
}

void UdpGather::append_referenced(const wire::TxPacket& packet) noexcept {
  close_run();
  for (size_t i = 0; i < packet.piece_count; ++i) {
    const iovec& piece = packet.pieces[i];
    if (piece.iov_len == 0) continue;
    iovecs_[iovec_count_++] = piece;
    if (!with_icrc_) continue;
    running_icrc_ = wire::icrc_add(running_icrc_,
                                   {static_cast<const std::byte*>(piece.iov_base), piece.iov_len});
    read_ += piece.iov_len;
  }
}

void UdpGather::append_trailer(const wire::TxPacket& packet) noexcept {
  std::byte* const pad = linear_.get() + linear_end_;
  std::memset(pad, 0, packet.pad_count);
  uint32_t icrc = 0;
  if (with_icrc_) {
    icrc = wire::icrc_finish(wire::icrc_add(running_icrc_, {pad, packet.pad_count}));
  }
  if (packet.corrupt) icrc ^= 0x5a;
  for (size_t i = 0; i < kIcrcBytes; ++i) {
    pad[packet.pad_count + i] = static_cast<std::byte>(icrc >> (8 * i));
  }
  linear_end_ += packet.pad_count + kIcrcBytes;
}

void UdpGather::close_run() noexcept {
  if (linear_end_ == run_begin_) return;
  iovecs_[iovec_count_++] = {linear_.get() + run_begin_, linear_end_ - run_begin_};
  run_begin_ = linear_end_;
}

}  // namespace flexins::port
