#include "transport/request_opcode.h"

namespace flexins::transport {

using base::WrOpcode;
using wire::Opcode;

namespace {

/// Opcodes of one operation by place in the message.
struct OpcodeSet {
  Opcode first, middle, last, only;
};

OpcodeSet opcodes_of(WrOpcode operation) {
  switch (operation) {
    case WrOpcode::kRdmaWrite:
      return {Opcode::kRcWriteFirst, Opcode::kRcWriteMiddle, Opcode::kRcWriteLast,
              Opcode::kRcWriteOnly};
    case WrOpcode::kRdmaWriteWithImmediate:
      return {Opcode::kRcWriteFirst, Opcode::kRcWriteMiddle, Opcode::kRcWriteLastImmediate,
              Opcode::kRcWriteOnlyImmediate};
    case WrOpcode::kSendWithInvalidate:
      return {Opcode::kRcSendFirst, Opcode::kRcSendMiddle, Opcode::kRcSendLastInvalidate,
              Opcode::kRcSendOnlyInvalidate};
    case WrOpcode::kAtomicWrite:
      return {Opcode::kRcAtomicWrite, Opcode::kRcAtomicWrite, Opcode::kRcAtomicWrite,
              Opcode::kRcAtomicWrite};
    case WrOpcode::kSendWithImmediate:
      return {Opcode::kRcSendFirst, Opcode::kRcSendMiddle, Opcode::kRcSendLastImmediate,
              Opcode::kRcSendOnlyImmediate};
    default:
      return {Opcode::kRcSendFirst, Opcode::kRcSendMiddle, Opcode::kRcSendLast,
              Opcode::kRcSendOnly};
  }
}

}  // namespace

Opcode request_opcode(WrOpcode operation, bool first, bool last) noexcept {
  const OpcodeSet set = opcodes_of(operation);
  if (first) return last ? set.only : set.first;
  return last ? set.last : set.middle;
}

bool starts_message(Opcode operation) noexcept {
  switch (operation) {
    case Opcode::kRcSendMiddle:
    case Opcode::kRcSendLast:
    case Opcode::kRcSendLastImmediate:
    case Opcode::kRcSendLastInvalidate:
    case Opcode::kRcWriteMiddle:
    case Opcode::kRcWriteLast:
    case Opcode::kRcWriteLastImmediate: return false;
    default: return true;
  }
}

bool ends_message(Opcode operation) noexcept {
  switch (operation) {
    case Opcode::kRcSendFirst:
    case Opcode::kRcSendMiddle:
    case Opcode::kRcWriteFirst:
    case Opcode::kRcWriteMiddle: return false;
    default: return true;
  }
}

}  // namespace flexins::transport
