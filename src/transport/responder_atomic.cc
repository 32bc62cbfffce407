#include <cstring>

#include "base/fault_guard.h"
#include "transport/responder.h"

namespace flexins::transport {

using base::WcStatus;
using memory::AccessResult;
using wire::Opcode;

namespace {

constexpr uint64_t kAtomicBytes = 8;

/// Compare-and-swap or fetch-and-add on mapped, aligned memory, atomic towards the application's
/// own processors too. Returns the original value.
uint64_t modify_in_place(uint64_t* at, bool swap, const wire::AtomicEth& operands) noexcept {
  if (!swap) return __atomic_fetch_add(at, operands.swap_add, __ATOMIC_ACQ_REL);
  uint64_t original = operands.compare;
  __atomic_compare_exchange_n(at, &original, operands.swap_add, false, __ATOMIC_ACQ_REL,
                              __ATOMIC_ACQUIRE);
  return original;
}

/// The same by reading and writing: atomic among the engine's own operations only.
AccessResult modify_by_copy(memory::Window& window, uint64_t address, bool swap,
                            const wire::AtomicEth& operands, uint64_t& original) noexcept {
  const AccessResult read = window.read(address, std::as_writable_bytes(std::span(&original, 1)));
  if (read != AccessResult::kDone) return read;
  const uint64_t value = swap ? operands.swap_add : original + operands.swap_add;
  if (swap && original != operands.compare) return AccessResult::kDone;
  // A store that is late may still happen, so that trying again could do it twice.
  const AccessResult written = window.write(address, std::as_bytes(std::span(&value, 1)));
  return written == AccessResult::kLater ? AccessResult::kFailed : written;
}

AccessResult modify(memory::Region& region, bool swap, const wire::AtomicEth& operands,
                    uint64_t& original) noexcept {
  memory::Window& window = *region.window;
  const uint64_t address = region.window_address(operands.address);
  const memory::Extent extent = window.resolve(address, kAtomicBytes);
  const auto bits = reinterpret_cast<uintptr_t>(extent.data);
  if (extent.data == nullptr || extent.length < kAtomicBytes || bits % kAtomicBytes != 0) {
    return modify_by_copy(window, address, swap, operands, original);
  }
  auto* at = reinterpret_cast<uint64_t*>(static_cast<void*>(extent.data));
  const auto body = [&]() noexcept { original = modify_in_place(at, swap, operands); };
  if (window.needs_guard())
    return base::guarded(body) ? AccessResult::kDone : AccessResult::kFailed;
  body();
  return AccessResult::kDone;
}

}  // namespace

void Responder::on_atomic(const Request& request) noexcept {
  const wire::AtomicEth& operands = request.headers.atomic;
  const bool allowed = (core_.attributes.access_flags & base::kAccessRemoteAtomic) != 0;
  if (message_ != Message::kNone || request.length != 0 || !allowed ||
      operands.address % kAtomicBytes != 0) {
    return refuse(wire::kSyndromeNakInvalidRequest, WcStatus::kRemoteInvalidRequest);
  }
  memory::Region* region =
      remote(operands.key, base::kAccessRemoteAtomic, operands.address, kAtomicBytes);
  if (region == nullptr) return refuse(wire::kSyndromeNakRemoteAccess, WcStatus::kRemoteAccess);
  RemoteOperation* operation = operations_.add();
  if (operation == nullptr) {
    return refuse(wire::kSyndromeNakInvalidRequest, WcStatus::kRemoteInvalidRequest);
  }
  uint64_t original = 0;
  const bool swap = request.headers.bth.opcode == Opcode::kRcCompareSwap;
  switch (modify(*region, swap, operands, original)) {
    case AccessResult::kDone: break;
    case AccessResult::kLater: operations_.take_back(); return refuse_not_ready();
    case AccessResult::kFailed:
      return refuse(wire::kSyndromeNakRemoteOperation, WcStatus::kRemoteOperation);
  }
  operation->first_psn = expected_;
  operation->packets = 1;
  operation->address = original;
  operation->is_atomic = true;
  operations_.set_due(*operation, 0, 1);
  accept(request, 1, true);
  operation->msn = msn_;
}

}  // namespace flexins::transport
