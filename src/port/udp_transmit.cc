#include "port/udp_transmit.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

namespace flexins::port {

namespace {

/// How long a device that cannot segment is remembered: routes change.
constexpr base::TimeNs kSingleMemory = 10 * base::kSecond;

bool same_way(const wire::Path& a, const wire::Path& b) {
  return &a == &b || (a.destination == b.destination && a.source == b.source &&
                      a.source_port == b.source_port && a.traffic_class == b.traffic_class &&
                      a.hop_limit == b.hop_limit);
}

/// Packets at the front of `burst` that one datagram can carry: same way, same size, the last one
/// may be shorter. One that is to be corrupt goes alone.
size_t train_length(std::span<wire::TxPacket> burst, size_t segments_max) {
  const size_t size = transport_bytes(burst[0]);
  const size_t most = std::min(burst.size(), segments_max);
  size_t bytes = size;
  size_t n = 1;
  while (n < most && !burst[n - 1].corrupt && !burst[n].corrupt &&
         same_way(*burst[n].path, *burst[0].path)) {
    const size_t next = transport_bytes(burst[n]);
    bytes += next;
    if (next > size || bytes > kMaxDatagramBytes) break;
    ++n;
    if (next < size) break;
  }
  return n;
}

/// The way out is full; the same call may succeed later.
bool is_full(int error) {
  return error == EAGAIN || error == ENOBUFS || error == ENOMEM || error == EINTR;
}

bool is_unreachable(int error) {
  return error == ENETUNREACH || error == EHOSTUNREACH || error == ENETDOWN || error == EHOSTDOWN ||
         error == EADDRNOTAVAIL;
}

size_t slot_of(const wire::IpAddress& destination, size_t slots) {
  uint64_t low;
  std::memcpy(&low, destination.bytes.data() + 8, sizeof low);
  return static_cast<size_t>((low * 0x9e3779b97f4a7c15u) >> 32) % slots;
}

}  // namespace

UdpTransmit::UdpTransmit(std::vector<Source> sources, uint32_t segments_max, bool with_icrc,
                         uint32_t copy_payload_bytes)
    : sources_(std::move(sources)),
      segments_max_(std::min<uint32_t>(segments_max, kMaxSegments)),
      with_icrc_(with_icrc),
      gather_(with_icrc, copy_payload_bytes) {}

size_t UdpTransmit::transmit(std::span<wire::TxPacket> burst, base::TimeNs now) noexcept {
  size_t taken = 0;
  while (taken < burst.size()) {
    const wire::TxPacket& first = burst[taken];
    const Source* source = source_of(*first.path);
    if (source == nullptr || (first.corrupt && !with_icrc_)) {
      drop(first, source == nullptr ? kNoSource : kCorrupt, now);
      ++taken;
      continue;
    }
    const size_t sent = transmit_train(burst.subspan(taken), *source, now);
    if (sent == 0) break;
    taken += sent;
  }
  return taken;
}

size_t UdpTransmit::transmit_train(std::span<wire::TxPacket> burst, const Source& source,
                                   base::TimeNs now) noexcept {
  const wire::Path& path = *burst[0].path;
  const Flow& flow = source.flows[path.source_port % source.flows.size()];
  UdpMessage message(path, source.scope_id);
  auto train = burst.first(train_length(burst, segments_max_));
  if (train.size() == 1 || must_be_single(path.destination, now)) {
    return send_singly(train, flow, message, now);
  }
  train = train.first(gather_joined(train, flow));
  if (gather_.segments() > 0) {
    msghdr header;
    const bool cut = gather_.segments() > 1;
    message.fill(header, gather_.iovecs(),
                 cut ? static_cast<uint16_t>(transport_bytes(train[0])) : uint16_t{0});
    if (sendmsg(flow.fd.get(), &header, 0) < 0) {
      if (is_full(errno)) return 0;
      // Whose fault it is shows when each packet goes alone: a device that does not segment, an
      // MTU that shrank, or one packet's memory.
      const uint64_t before = packets_;
      const bool device = errno == EINVAL || errno == EIO || errno == EOPNOTSUPP;
      const size_t sent = send_singly(train, flow, message, now);
      if (device && packets_ > before) remember_single(path.destination, now);
      return sent;
    }
    ++datagrams_;
    if (cut) ++trains_;
  }
  commit_joined(train, now);
  return train.size();
}

size_t UdpTransmit::gather_joined(std::span<wire::TxPacket> train, const Flow& flow) noexcept {
  gather_.begin(true, flow.port);
  gone_.reset();
  size_t n = 0;
  for (; n < train.size(); ++n) {
    const auto added = gather_.add(train[n]);
    if (added == UdpGather::Added::kFull) break;
    if (added == UdpGather::Added::kMemoryGone) gone_.set(n);
  }
  gather_.finish();
  return n;
}

void UdpTransmit::commit_joined(std::span<wire::TxPacket> train, base::TimeNs now) noexcept {
  for (size_t i = 0; i < train.size(); ++i) {
    if (gone_.test(i)) {
      drop(train[i], kMemoryGone, now);
    } else {
      count_sent(train[i]);
    }
  }
}

size_t UdpTransmit::send_singly(std::span<wire::TxPacket> train, const Flow& flow,
                                UdpMessage& message, base::TimeNs now) noexcept {
  size_t taken = 0;
  while (taken < train.size()) {
    gather_.begin(false, flow.port);
    size_t n = 0;
    auto added = UdpGather::Added::kYes;
    while (taken + n < train.size()) {
      added = gather_.add(train[taken + n]);
      if (added != UdpGather::Added::kYes) break;
      ++n;
    }
    gather_.finish();
    const size_t sent = send_gathered(train.subspan(taken, n), flow, message, now);
    taken += sent;
    if (sent < n) break;
    if (added == UdpGather::Added::kMemoryGone) drop(train[taken++], kMemoryGone, now);
  }
  return taken;
}

size_t UdpTransmit::send_gathered(std::span<wire::TxPacket> train, const Flow& flow,
                                  UdpMessage& message, base::TimeNs now) noexcept {
  for (size_t i = 0; i < train.size(); ++i) {
    message.fill(headers_[i].msg_hdr, gather_.segment(i), 0);
  }
  size_t done = 0;
  while (done < train.size()) {
    const int sent = sendmmsg(flow.fd.get(), headers_.data() + done,
                              static_cast<unsigned>(train.size() - done), 0);
    if (sent > 0) {
      datagrams_ += static_cast<uint64_t>(sent);
      for (int i = 0; i < sent; ++i) count_sent(train[done++]);
      continue;
    }
    if (is_full(errno)) break;
    const Drop reason = errno == EFAULT         ? kMemoryGone
                        : errno == EMSGSIZE     ? kTooLong
                        : is_unreachable(errno) ? kUnreachable
                                                : kRefused;
    drop(train[done++], reason, now);
  }
  return done;
}

const UdpTransmit::Source* UdpTransmit::source_of(const wire::Path& path) const noexcept {
  for (const Source& source : sources_) {
    if (source.address == path.source) return &source;
  }
  return nullptr;
}

bool UdpTransmit::must_be_single(const wire::IpAddress& destination,
                                 base::TimeNs now) const noexcept {
  if (segments_max_ == 1) return true;
  const Single& single = singles_[slot_of(destination, kSingles)];
  return now < single.until && single.destination == destination;
}

void UdpTransmit::remember_single(const wire::IpAddress& destination, base::TimeNs now) noexcept {
  singles_[slot_of(destination, kSingles)] = {destination, now + kSingleMemory};
}

void UdpTransmit::drop(const wire::TxPacket& packet, Drop reason, base::TimeNs now) noexcept {
  static constexpr std::string_view kReasons[kDropReasons] = {"memory gone",
                                                              "longer than the path MTU",
                                                              "destination unreachable",
                                                              "source address not ours",
                                                              "icrc wrong",
                                                              "refused by the kernel"};
  ++drops_[reason];
  if (observer_ != nullptr) observer_->transmit_dropped(packet, kReasons[reason], now);
}

void UdpTransmit::count_sent(const wire::TxPacket& packet) noexcept {
  ++packets_;
  bytes_ += transport_bytes(packet);
}

void UdpTransmit::append_counters(std::vector<Counter>& to) const {
  to.insert(to.end(), {{"tx_packets", packets_},
                       {"tx_bytes", bytes_},
                       {"tx_datagrams", datagrams_},
                       {"tx_trains", trains_},
                       {"tx_memory_gone", drops_[kMemoryGone]},
                       {"tx_too_long", drops_[kTooLong]},
                       {"tx_unreachable", drops_[kUnreachable]},
                       {"tx_no_source", drops_[kNoSource]},
                       {"tx_corrupt", drops_[kCorrupt]},
                       {"tx_refused", drops_[kRefused]},
                       {"payload_bytes_copied", gather_.payload_bytes_copied()},
                       {"payload_bytes_read", gather_.payload_bytes_read()}});
}

}  // namespace flexins::port
