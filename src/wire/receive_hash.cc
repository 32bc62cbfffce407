#include "wire/receive_hash.h"

#include <cstring>
#include <span>

#include "base/byte_order.h"

namespace flexins::wire {

namespace {

constexpr uint8_t kTcp = 6;
constexpr uint8_t kUdp = 17;
/// Two IPv6 addresses and two ports; the key is longer by the 32 bits of the hash.
constexpr size_t kInputBytes = 36;

/// The fields of a frame one behind the other.
class Input {
 public:
  void add(bool wanted, std::span<const uint8_t> field) {
    if (!wanted) return;
    std::memcpy(bytes_.data() + length_, field.data(), field.size());
    length_ += field.size();
  }
  [[nodiscard]] std::span<const uint8_t> bytes() const { return std::span(bytes_).first(length_); }

 private:
  std::array<uint8_t, kInputBytes> bytes_{};
  size_t length_ = 0;
};

/// For each bit of the input that is set: the 32 bits of the key that begin there.
uint32_t toeplitz(const std::array<uint8_t, 40>& key, std::span<const uint8_t> input) {
  uint32_t hash = 0;
  for (size_t i = 0; i < input.size(); ++i) {
    const auto* at = reinterpret_cast<const std::byte*>(key.data()) + i;
    uint64_t window = uint64_t{base::load_be<uint32_t>(at)} << 8 | key[i + 4];
    for (uint8_t bit = 0x80; bit != 0; bit >>= 1) {
      if ((input[i] & bit) != 0) hash ^= static_cast<uint32_t>(window >> 8);
      window <<= 1;
    }
  }
  return hash;
}

}  // namespace

uint32_t receive_hash(const base::ReceiveHash& hash, const base::FlowKey& key) noexcept {
  const auto wants = [&hash](uint32_t field) { return (hash.fields & field) != 0; };
  Input input;
  if (key.ip_version == 4) {
    input.add(wants(base::kHashSourceIpv4), std::span(key.source_ip).last(4));
    input.add(wants(base::kHashDestinationIpv4), std::span(key.destination_ip).last(4));
  } else if (key.ip_version == 6) {
    input.add(wants(base::kHashSourceIpv6), key.source_ip);
    input.add(wants(base::kHashDestinationIpv6), key.destination_ip);
  }
  if (key.protocol == kTcp) {
    input.add(wants(base::kHashSourcePortTcp), key.source_port);
    input.add(wants(base::kHashDestinationPortTcp), key.destination_port);
  } else if (key.protocol == kUdp) {
    input.add(wants(base::kHashSourcePortUdp), key.source_port);
    input.add(wants(base::kHashDestinationPortUdp), key.destination_port);
  }
  return toeplitz(hash.key, input.bytes());
}

}  // namespace flexins::wire
