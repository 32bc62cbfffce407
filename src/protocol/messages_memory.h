#pragma once

#include <cstddef>

#include "protocol/messages.h"

/// Memory regions beyond plain registration: changed ones, the null region, device memory, and what
/// one context shows another.

namespace flexins::protocol {

/// The largest piece of device memory that is to be had.
inline constexpr uint64_t kMaxDeviceMemoryBytes = 1u << 20;

/// What of a region changes; values of `enum ibv_rereg_mr_flags`.
enum RegionChange : uint32_t {
  kChangeTranslation = 1 << 0,
  kChangePd = 1 << 1,
  kChangeAccess = 1 << 2,
};

/// Changes a region; its key stays. `region` says as much as `changes` demands: with kChangePd its
/// `pd`, with the others all the rest (both translation and access, since either may need another
/// window). Its header is not looked at; variable length as that of RegisterMrRequest. When it
/// fails the region is as before. When the reply is there, the engine touches the memory that the
/// region had before no more.
struct ReregisterMrRequest {
  static constexpr MessageType kType = MessageType::kReregisterMr;
  MessageHeader header;
  uint32_t key;
  uint32_t changes;
  RegisterMrRequest region;
};
static_assert(sizeof(ReregisterMrRequest) <= kMaxMessageBytes);

/// A region that reads as zeroes and forgets what is written, at any address; for local access.
/// Answered by RegisterMrReply, freed as any region.
struct AllocateNullMrRequest {
  static constexpr MessageType kType = MessageType::kAllocateNullMr;
  MessageHeader header;
  uint32_t pd;
  uint32_t reserved;
};

/// Memory of the device, kMaxDeviceMemoryBytes at most. EINVAL beyond that.
struct AllocateDmRequest {
  static constexpr MessageType kType = MessageType::kAllocateDm;
  MessageHeader header;
  uint64_t length;
};
/// Descriptor 0: the memory, for the processor's own access. Answers ImportDm too.
struct AllocateDmReply {
  MessageHeader header;
  uint64_t length;
  uint32_t dm;
  uint32_t reserved;
};
/// EBUSY: regions still use it.
struct FreeDmRequest {
  static constexpr MessageType kType = MessageType::kFreeDm;
  MessageHeader header;
  uint32_t dm;
  uint32_t reserved;
};
/// A zero-based region over [offset, offset + length) of device memory. Answered by
/// RegisterMrReply, freed as any region.
struct RegisterDmMrRequest {
  static constexpr MessageType kType = MessageType::kRegisterDmMr;
  MessageHeader header;
  uint64_t offset;
  uint64_t length;
  uint32_t dm;
  uint32_t pd;
  uint32_t access;
  uint32_t reserved;
};

/// Another context of the same user lets us use its PD. ENOENT: it has none of that number. Freed
/// by FreePd; the PD itself stays the owner's.
struct ImportPdRequest {
  static constexpr MessageType kType = MessageType::kImportPd;
  MessageHeader header;
  uint32_t owner;  ///< HelloReply::context of the other
  uint32_t pd;
};
/// ENOENT: the PD, which may be imported, has no region with that key.
struct ImportMrRequest {
  static constexpr MessageType kType = MessageType::kImportMr;
  MessageHeader header;
  uint32_t pd;
  uint32_t key;
};
struct ImportMrReply {
  MessageHeader header;
  uint64_t length;
};
/// Device memory of any context of the same user. The memory stays the owner's.
struct ImportDmRequest {
  static constexpr MessageType kType = MessageType::kImportDm;
  MessageHeader header;
  uint32_t dm;
  uint32_t reserved;
};

}  // namespace flexins::protocol
