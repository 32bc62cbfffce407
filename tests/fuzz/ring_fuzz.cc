#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

#include "base/check.h"
#include "port/shm_ring.h"

/// A neighbour's ring with any bytes in it and any positions: what is handed out lies within the
/// ring and within the sizes of packets, and what was broken once stays so.

namespace {

using flexins::port::kShmDataBytes;
using flexins::port::ShmReceiver;
using flexins::port::ShmRingLayout;
namespace wire = flexins::wire;

void check_all(const ShmRingLayout& ring, std::span<const wire::RxPacket> packets) {
  for (const wire::RxPacket& packet : packets) {
    FLEXINS_CHECK(packet.length >= 12 && packet.length <= wire::kMaxHeaderBytes);
    FLEXINS_CHECK(packet.piece_count <= 1);
    for (const iovec& piece : wire::pieces_of(packet)) {
      const auto* begin = static_cast<const std::byte*>(piece.iov_base);
      FLEXINS_CHECK(piece.iov_len > 0 && piece.iov_len <= wire::kMaxMtuBytes);
      FLEXINS_CHECK(begin >= ring.data && begin + piece.iov_len <= ring.data + kShmDataBytes);
    }
  }
}

}  // namespace

/// Steps of 10 bytes: where in the ring the next bytes go (in lines), how far `written` moves (in
/// lines, or any), then as many bytes as the first says.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto ring = std::make_unique<ShmRingLayout>();
  std::memset(ring->data, 0, 8192);
  ring->written = 0;
  ring->read = 0;
  ShmReceiver receiver(*ring);
  wire::RxPacket burst[ShmReceiver::kBurst];
  uint64_t written = 0;
  while (size >= 4) {
    const size_t length = std::min<size_t>(data[0] % 64, size - 4);
    const size_t at = (written + data[1] % 4 * 16) % kShmDataBytes;
    const uint64_t step = data[2] == 255 ? uint64_t{data[3]} << 56 | data[2]
                                         : (uint64_t{data[2]} | uint64_t{data[3]} << 8) * 64;
    data += 4;
    size -= 4;
    std::memcpy(ring->data + at, data, std::min(length, kShmDataBytes - at));
    data += length;
    size -= length;
    written += step;
    ring->written = written;
    const bool was_broken = receiver.broken();
    const size_t count = receiver.receive(burst);
    FLEXINS_CHECK(count <= ShmReceiver::kBurst);
    FLEXINS_CHECK(!was_broken || (receiver.broken() && count == 0));
    check_all(*ring, std::span(burst, count));
  }
  return 0;
}
