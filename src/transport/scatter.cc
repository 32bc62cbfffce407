#include "transport/scatter.h"

#include <algorithm>

namespace flexins::transport {

namespace {

/// Calls `visit(element, offset in it, offset in the span, length)` for each part of
/// [offset, offset + length) of the list until it returns false. False then, or when the list ends
/// too early.
template <typename Visit>
bool for_each_part(std::span<const base::Sge> sges, uint64_t offset, uint64_t length,
                   Visit&& visit) noexcept {
  uint64_t done = 0;
  for (const base::Sge& sge : sges) {
    if (done == length) break;
    if (offset >= sge.length) {
      offset -= sge.length;
      continue;
    }
    const uint64_t part = std::min<uint64_t>(sge.length - offset, length - done);
    if (!visit(sge, offset, done, part)) return false;
    done += part;
    offset = 0;
  }
  return done == length;
}

memory::Region* granted(const Domain& domain, const base::Sge& sge, uint32_t access) noexcept {
  return domain.regions->check(base::MemoryKey{sge.key}, domain.pd, access, sge.address, sge.length)
      .region;
}

/// The part of the staging area that the packet does not use yet. Staged pieces and staged bytes
/// come in order, so its end is the end of the last piece in it.
std::span<std::byte> free_staging(const wire::TxPacket& out) noexcept {
  std::byte* const begin = out.staging;
  std::byte* const end = out.staging + wire::kMaxMtuBytes;
  std::byte* at = begin;
  for (uint32_t i = 0; i < out.piece_count; ++i) {
    auto* const from = static_cast<std::byte*>(out.pieces[i].iov_base);
    if (from >= begin && from < end) at = from + out.pieces[i].iov_len;
  }
  return {at, end};
}

/// The way out where a list is too broken for the packet's pieces: everything into staging.
bool stage_region(memory::Region& region, uint64_t address, uint32_t length, wire::TxPacket& out,
                  uint64_t& staged_bytes) noexcept {
  const auto staging = free_staging(out);
  if (staging.size() < length || out.piece_count == out.pieces.size()) return false;
  if (!region.window->read(region.window_address(address), staging.first(length))) return false;
  out.pieces[out.piece_count++] = iovec{staging.data(), length};
  staged_bytes += length;
  return true;
}

}  // namespace

bool sges_granted(const Domain& domain, std::span<const base::Sge> sges, uint32_t access) noexcept {
  return std::all_of(sges.begin(), sges.end(), [&](const base::Sge& sge) {
    return sge.length == 0 || granted(domain, sge, access) != nullptr;
  });
}

bool gather_region(memory::Region& region, uint64_t address, uint32_t length, wire::TxPacket& out,
                   uint64_t& staged_bytes) noexcept {
  auto staging = free_staging(out);
  uint64_t staged = 0;
  const auto room = std::span(out.pieces).subspan(out.piece_count);
  const int used = memory::gather(region, address, length, room, staging, staged);
  if (used < 0) {
    if (!stage_region(region, address, length, out, staged)) return false;
  } else {
    out.piece_count = static_cast<uint8_t>(out.piece_count + used);
  }
  staged_bytes += staged;
  out.payload_length += length;
  return true;
}

bool gather_sges(const Domain& domain, std::span<const base::Sge> sges, uint64_t offset,
                 uint32_t length, wire::TxPacket& out, uint64_t& staged_bytes) noexcept {
  return for_each_part(
      sges, offset, length, [&](const base::Sge& sge, uint64_t at, uint64_t, uint64_t part) {
        memory::Region* region = granted(domain, sge, 0);
        return region != nullptr && gather_region(*region, sge.address + at,
                                                  static_cast<uint32_t>(part), out, staged_bytes);
      });
}

bool place_sges(const Domain& domain, std::span<const base::Sge> sges, uint64_t offset,
                std::span<const iovec> pieces, uint64_t length) noexcept {
  return for_each_part(
      sges, offset, length, [&](const base::Sge& sge, uint64_t at, uint64_t done, uint64_t part) {
        memory::Region* region = granted(domain, sge, base::kAccessLocalWrite);
        return region != nullptr && memory::place(*region, sge.address + at, pieces, done, part);
      });
}

uint64_t sges_length(std::span<const base::Sge> sges) noexcept {
  uint64_t length = 0;
  for (const base::Sge& sge : sges) length += sge.length;
  return length;
}

}  // namespace flexins::transport
