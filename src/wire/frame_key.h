#pragma once

#include <cstddef>
#include <span>

#include "base/flow.h"

namespace flexins::wire {

/// Reads what flow rules look at from an Ethernet frame, as far as it goes: fields that the frame
/// does not have stay zero. Of fragments only the first has ports; IPv6 extension headers are not
/// followed. False when it is shorter than an Ethernet header.
[[nodiscard]] bool parse_frame_key(std::span<const std::byte> frame, base::FlowKey& out) noexcept;

/// Whether `rule` wants a frame with this key.
[[nodiscard]] bool fits(const base::FlowRule& rule, const base::FlowKey& key) noexcept;

}  // namespace flexins::wire
