#include "transport/scatter.h"

#include <algorithm>

namespace flexins::transport {

using memory::AccessResult;

namespace {

/// Calls `visit(element, offset in it, offset in the span, length)` for each part of
/// [offset, offset + length) of the list while it returns kDone. kFailed when the list ends too
/// early.
template <typename Visit>
AccessResult for_each_part(std::span<const base::Sge> sges, uint64_t offset, uint64_t length,
                           Visit&& visit) noexcept {
  uint64_t done = 0;
  for (const base::Sge& sge : sges) {
    if (done == length) break;
    if (offset >= sge.length) {
      offset -= sge.length;
      continue;
    }
    const uint64_t part = std::min<uint64_t>(sge.length - offset, length - done);
    const AccessResult result = visit(sge, offset, done, part);
    if (result != AccessResult::kDone) return result;
    done += part;
    offset = 0;
  }
  return done == length ? AccessResult::kDone : AccessResult::kFailed;
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
AccessResult stage_region(memory::Region& region, uint64_t address, uint32_t length,
                          wire::TxPacket& out, uint64_t& staged_bytes) noexcept {
  const auto staging = free_staging(out);
  if (staging.size() < length || out.piece_count == out.pieces.size()) {
    return AccessResult::kFailed;
  }
  const AccessResult read =
      region.window->read(region.window_address(address), staging.first(length));
  if (read != AccessResult::kDone) return read;
  out.pieces[out.piece_count++] = iovec{staging.data(), length};
  staged_bytes += length;
  return AccessResult::kDone;
}

}  // namespace

bool sges_granted(const Domain& domain, std::span<const base::Sge> sges, uint32_t access) noexcept {
  return std::all_of(sges.begin(), sges.end(), [&](const base::Sge& sge) {
    return sge.length == 0 || granted(domain, sge, access) != nullptr;
  });
}

AccessResult gather_region(memory::Region& region, uint64_t address, uint32_t length,
                           wire::TxPacket& out, uint64_t& staged_bytes) noexcept {
  auto staging = free_staging(out);
  uint64_t staged = 0;
  const auto room = std::span(out.pieces).subspan(out.piece_count);
  size_t used = 0;
  AccessResult result = memory::gather(region, address, length, room, used, staging, staged);
  if (result == AccessResult::kDone) {
    out.piece_count = static_cast<uint8_t>(out.piece_count + used);
  } else if (result == AccessResult::kFailed) {
    result = stage_region(region, address, length, out, staged);
  }
  if (result != AccessResult::kDone) return result;
  staged_bytes += staged;
  out.payload_length += length;
  return result;
}

AccessResult gather_sges(const Domain& domain, std::span<const base::Sge> sges, uint64_t offset,
                         uint32_t length, wire::TxPacket& out, uint64_t& staged_bytes) noexcept {
  return for_each_part(sges, offset, length,
                       [&](const base::Sge& sge, uint64_t at, uint64_t, uint64_t part) {
                         memory::Region* region = granted(domain, sge, 0);
                         if (region == nullptr) return AccessResult::kFailed;
                         return gather_region(*region, sge.address + at,
                                              static_cast<uint32_t>(part), out, staged_bytes);
                       });
}

AccessResult place_sges(const Domain& domain, std::span<const base::Sge> sges, uint64_t offset,
                        std::span<const iovec> pieces, uint64_t length) noexcept {
  return for_each_part(sges, offset, length,
                       [&](const base::Sge& sge, uint64_t at, uint64_t done, uint64_t part) {
                         memory::Region* region = granted(domain, sge, base::kAccessLocalWrite);
                         if (region == nullptr) return AccessResult::kFailed;
                         return memory::place(*region, sge.address + at, pieces, done, part);
                       });
}

uint64_t sges_length(std::span<const base::Sge> sges) noexcept {
  uint64_t length = 0;
  for (const base::Sge& sge : sges) length += sge.length;
  return length;
}

}  // namespace flexins::transport
