#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>

#include "base/verbs_types.h"
#include "memory/region.h"
#include "wire/packet.h"

namespace flexins::transport {

/// Memory that a QP may name: the regions and the protection domain that it lives in.
struct Domain {
  memory::RegionTable* regions = nullptr;
  base::PdId pd;
};

/// Whether every element that is not empty lies in a region of the domain that grants `access`.
[[nodiscard]] bool sges_granted(const Domain& domain, std::span<const base::Sge> sges,
                                uint32_t access) noexcept;

/// Appends references to bytes [offset, offset + length) of the list to the packet's payload; what
/// cannot be referenced is staged. kFailed also when a key grants nothing.
[[nodiscard]] memory::AccessResult gather_sges(const Domain& domain,
                                               std::span<const base::Sge> sges, uint64_t offset,
                                               uint32_t length, wire::TxPacket& out,
                                               uint64_t& staged_bytes) noexcept;

/// Appends `length` bytes of a region to the packet's payload.
[[nodiscard]] memory::AccessResult gather_region(memory::Region& region, uint64_t address,
                                                 uint32_t length, wire::TxPacket& out,
                                                 uint64_t& staged_bytes) noexcept;

/// Places `length` bytes of `pieces` at byte `offset` of the list, in increasing order. kFailed
/// also when a key does not grant local write.
[[nodiscard]] memory::AccessResult place_sges(const Domain& domain, std::span<const base::Sge> sges,
                                              uint64_t offset, std::span<const iovec> pieces,
                                              uint64_t length) noexcept;

/// Sum of the elements' lengths.
[[nodiscard]] uint64_t sges_length(std::span<const base::Sge> sges) noexcept;

}  // namespace flexins::transport
