#pragma once

#include <array>
#include <cstdint>

#include "base/time.h"

namespace flexins::transport {

/// How long a requester waits after an RNR NAK with this 5-bit timer code (IBTA table 45).
[[nodiscard]] constexpr base::TimeNs rnr_wait(uint8_t code) {
  // In units of 10 µs; code 0 is the longest.
  constexpr std::array<uint32_t, 32> kTens = {65536, 1,    2,    3,     4,     6,     8,     12,
                                              16,    24,   32,   48,    64,    96,    128,   192,
                                              256,   384,  512,  768,   1024,  1536,  2048,  3072,
                                              4096,  6144, 8192, 12288, 16384, 24576, 32768, 49152};
  return kTens[code & 31] * 10 * base::kMicrosecond;
}

/// Local ACK timeout of a code: 4.096 µs · 2^code; 0 means never (IBTA 9.7.6.1.3).
[[nodiscard]] constexpr base::TimeNs ack_timeout(uint8_t code) {
  return code == 0 ? base::kNever : base::TimeNs{4096} << (code & 31);
}

/// `now + wait`, where never stays never.
[[nodiscard]] constexpr base::TimeNs deadline_after(base::TimeNs now, base::TimeNs wait) {
  return wait == base::kNever || wait > base::kNever - now ? base::kNever : now + wait;
}

}  // namespace flexins::transport
