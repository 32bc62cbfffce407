#include "daemon/neighbour_hello.h"

#include <algorithm>
#include <cstring>

#include "base/byte_order.h"

namespace flexins::daemon {

namespace {

constexpr std::array<uint8_t, 3> kOui = {0x02, 0x46, 0x4e};
// Behind the MAD header: 12 bytes of RMPP, one reserved, the OUI.
constexpr size_t kOuiAt = wire::kMadHeaderBytes + 13;
constexpr size_t kBodyAt = kOuiAt + kOui.size();
constexpr size_t kPlaceAt = kBodyAt;
constexpr size_t kEngineAt = kPlaceAt + sizeof(Secret);
constexpr size_t kTokenAt = kEngineAt + sizeof(uint64_t);
static_assert(kTokenAt + sizeof(Secret) <= wire::kMadBytes);

}  // namespace

std::optional<NeighbourMad> parse_neighbour_mad(
    std::span<const std::byte, wire::kMadBytes> mad) noexcept {
  wire::MadHeader header;
  wire::parse_mad_header(mad, header);
  const bool ours = header.base_version == wire::kMadBaseVersion &&
                    header.management_class == kMadClassNeighbour &&
                    header.class_version == kNeighbourVersion &&
                    header.method == wire::kMadMethodSend &&
                    std::memcmp(mad.data() + kOuiAt, kOui.data(), kOui.size()) == 0;
  const bool known = header.attribute == static_cast<uint16_t>(NeighbourMad::Kind::kHello) ||
                     header.attribute == static_cast<uint16_t>(NeighbourMad::Kind::kAnswer);
  if (!ours || !known) return std::nullopt;
  NeighbourMad out;
  out.kind = static_cast<NeighbourMad::Kind>(header.attribute);
  std::memcpy(out.place.data(), mad.data() + kPlaceAt, out.place.size());
  out.engine = base::load_be<uint64_t>(mad.data() + kEngineAt);
  std::memcpy(out.token.data(), mad.data() + kTokenAt, out.token.size());
  return out;
}

void emit_neighbour_mad(const NeighbourMad& mad,
                        std::span<std::byte, wire::kMadBytes> out) noexcept {
  std::fill(out.begin(), out.end(), std::byte{0});
  wire::MadHeader header;
  header.management_class = kMadClassNeighbour;
  header.class_version = kNeighbourVersion;
  header.method = wire::kMadMethodSend;
  header.attribute = static_cast<uint16_t>(mad.kind);
  wire::emit_mad_header(header, out);
  std::memcpy(out.data() + kOuiAt, kOui.data(), kOui.size());
  std::memcpy(out.data() + kPlaceAt, mad.place.data(), mad.place.size());
  base::store_be<uint64_t>(out.data() + kEngineAt, mad.engine);
  std::memcpy(out.data() + kTokenAt, mad.token.data(), mad.token.size());
}

}  // namespace flexins::daemon
