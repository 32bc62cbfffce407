#include "port/shm_ring.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/fault_guard.h"
#include "port/limits.h"

namespace flexins::port {

namespace {

constexpr size_t round_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

/// From the record's beginning. Large payloads begin on a line, for the copy's sake; small ones
/// share the header's.
size_t payload_offset(size_t header_length, size_t payload_length) {
  constexpr size_t kLarge = 256;
  return round_up(sizeof(ShmRecord) + header_length, payload_length >= kLarge ? kShmLineBytes : 8);
}

size_t record_bytes(size_t header_length, size_t payload_length) {
  return round_up(payload_offset(header_length, payload_length) + payload_length, kShmLineBytes);
}

size_t up_to_end(uint64_t position) { return kShmDataBytes - position % kShmDataBytes; }

}  // namespace

bool ShmSender::has_room(size_t bytes) noexcept {
  if (written_ + bytes - read_ <= kShmDataBytes) return true;
  const uint64_t read = ring_.read.load(std::memory_order_acquire);
  if (read < read_ || read > written_) {
    broken_ = true;
    return false;
  }
  read_ = read;
  return written_ + bytes - read_ <= kShmDataBytes;
}

ShmSender::Written ShmSender::write(const wire::TxPacket& packet) noexcept {
  FLEXINS_CHECK(packet.header_length >= kBthBytes &&
                packet.header_length <= wire::kMaxHeaderBytes &&
                packet.payload_length <= wire::kMaxMtuBytes);
  if (broken_) return Written::kBroken;
  const size_t bytes = record_bytes(packet.header_length, packet.payload_length);
  const size_t rest = up_to_end(written_);
  const size_t padding = rest < bytes ? rest : 0;
  if (!has_room(padding + bytes)) return broken_ ? Written::kBroken : Written::kFull;
  if (padding > 0) {
    const ShmRecord none{};
    std::memcpy(ring_.data + written_ % kShmDataBytes, &none, sizeof none);
    written_ += padding;
  }
  std::byte* to = ring_.data + written_ % kShmDataBytes;
  const ShmRecord record{.payload_length = packet.payload_length,
                         .header_length = packet.header_length,
                         .source_port = packet.path->source_port,
                         .traffic_class = packet.path->traffic_class,
                         .hop_limit = packet.path->hop_limit,
                         .reserved = {}};
  std::memcpy(to, &record, sizeof record);
  std::memcpy(to + sizeof record, packet.header.data(), packet.header_length);
  std::byte* payload = to + payload_offset(packet.header_length, packet.payload_length);
  if (packet.payload_length > 0 &&
      !base::guarded([&]() noexcept { wire::copy_pieces(wire::pieces_of(packet), payload); })) {
    return Written::kMemoryGone;
  }
  written_ += bytes;
  return Written::kDone;
}

bool ShmSender::publish() noexcept {
  if (published_ == written_) return false;
  published_ = written_;
  ring_.written.store(written_, std::memory_order_release);
  // Either we see the receiver's wish, or its last look before sleeping sees what we published.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return ring_.need_wakeup.load(std::memory_order_relaxed) != 0;
}

size_t ShmReceiver::receive(std::span<wire::RxPacket> burst) noexcept {
  if (broken_) return 0;
  // One store for all that the last call handed out.
  if (ring_.read.load(std::memory_order_relaxed) != read_) {
    ring_.read.store(read_, std::memory_order_release);
  }
  if (read_ == written_) {
    const uint64_t written = ring_.written.load(std::memory_order_acquire);
    if (written < written_ || written - read_ > kShmDataBytes || written % kShmLineBytes != 0) {
      broken_ = true;
      return 0;
    }
    written_ = written;
  }
  const size_t most = std::min(burst.size(), kBurst);
  size_t count = 0;
  while (count < most && read_ != written_ && !broken_) {
    if (take(written_ - read_, count, burst[count])) ++count;
  }
  return count;
}

bool ShmReceiver::take(uint64_t available, size_t slot, wire::RxPacket& out) noexcept {
  const std::byte* from = ring_.data + read_ % kShmDataBytes;
  ShmRecord record;
  std::memcpy(&record, from, sizeof record);
  const size_t rest = up_to_end(read_);
  if (record.header_length == 0) {
    broken_ = rest > available;
    if (!broken_) read_ += rest;
    return false;
  }
  const bool sane = record.header_length >= kBthBytes &&
                    record.header_length <= wire::kMaxHeaderBytes &&
                    record.payload_length <= wire::kMaxMtuBytes;
  const size_t bytes = sane ? record_bytes(record.header_length, record.payload_length) : 0;
  if (!sane || bytes > available || bytes > rest) {
    broken_ = true;
    return false;
  }
  std::memcpy(headers_[slot].data(), from + sizeof record, record.header_length);
  const size_t offset = payload_offset(record.header_length, record.payload_length);
  payloads_[slot] = {const_cast<std::byte*>(from) + offset, record.payload_length};
  out = {.bytes = headers_[slot].data(),
         .length = record.header_length,
         .pieces = record.payload_length > 0 ? &payloads_[slot] : nullptr,
         .piece_count = record.payload_length > 0 ? 1u : 0u,
         .source = {},
         .destination = {},
         .source_port = record.source_port,
         .traffic_class = record.traffic_class,
         .hop_limit = record.hop_limit};
  read_ += bytes;
  return true;
}

}  // namespace flexins::port
