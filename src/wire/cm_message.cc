#include "wire/cm_message.h"

#include <algorithm>
#include <cstring>

#include "base/byte_order.h"

namespace flexins::wire {
namespace {

enum class Attribute : uint16_t {
  kClassPortInfo = 0x0001,
  kReq = 0x0010,
  kMra = 0x0011,
  kRej = 0x0012,
  kRep = 0x0013,
  kRtu = 0x0014,
  kDreq = 0x0015,
  kDrep = 0x0016,
  kSidrReq = 0x0017,
  kSidrRep = 0x0018,
  kLap = 0x0019,
  kApr = 0x001a,
};

/// Field by field through a message, in one of two directions, so that each layout stands here
/// once. The buffer is as long as any message.
class Reading {
 public:
  explicit Reading(const std::byte* at) : at_(at) {}

  template <typename T>
  void whole(T& value) {
    value = base::load_be<T>(at_);
    at_ += sizeof(T);
  }
  template <size_t kBytes>
  void bytes(std::array<uint8_t, kBytes>& value) {
    std::memcpy(value.data(), at_, kBytes);
    at_ += kBytes;
  }
  void skip(size_t bytes) { at_ += bytes; }
  /// The next kBytes bytes are split by take() calls, most significant bits first.
  template <size_t kBytes>
  void open() {
    word_ = 0;
    for (size_t i = 0; i < kBytes; ++i) word_ = word_ << 8 | std::to_integer<uint32_t>(at_[i]);
    at_ += kBytes;
    left_ = kBytes * 8;
  }
  template <typename T>
  void bits(T& value, unsigned count) {
    left_ -= count;
    value = static_cast<T>(word_ >> left_ & ((uint64_t{1} << count) - 1));
  }
  void bits(base::Psn& value, unsigned count) {
    uint32_t number = 0;
    bits(number, count);
    value = base::Psn(number);
  }
  void unused(unsigned count) { left_ -= count; }
  void close() {}

 private:
  const std::byte* at_;
  uint64_t word_ = 0;
  unsigned left_ = 0;
};

class Writing {
 public:
  explicit Writing(std::byte* at) : at_(at) {}

  template <typename T>
  void whole(const T& value) {
    base::store_be<T>(at_, value);
    at_ += sizeof(T);
  }
  template <size_t kBytes>
  void bytes(const std::array<uint8_t, kBytes>& value) {
    std::memcpy(at_, value.data(), kBytes);
    at_ += kBytes;
  }
  void skip(size_t bytes) {
    std::memset(at_, 0, bytes);
    at_ += bytes;
  }
  template <size_t kBytes>
  void open() {
    word_ = 0;
    bytes_ = kBytes;
  }
  template <typename T>
  void bits(const T& value, unsigned count) {
    word_ = word_ << count | (static_cast<uint64_t>(value) & ((uint64_t{1} << count) - 1));
  }
  void bits(const base::Psn& value, unsigned count) { bits(value.value(), count); }
  void unused(unsigned count) { word_ <<= count; }
  void close() {
    for (size_t i = bytes_; i > 0; --i) *at_++ = static_cast<std::byte>(word_ >> (i - 1) * 8);
  }

 private:
  std::byte* at_;
  uint64_t word_ = 0;
  size_t bytes_ = 0;
};

template <typename Way, typename Path>
void walk_path(Way& way, Path& p) {
  way.whole(p.local_lid);
  way.whole(p.remote_lid);
  way.bytes(p.local_gid);
  way.bytes(p.remote_gid);
  way.template open<4>();
  way.bits(p.flow_label, 20);
  way.unused(6);
  way.bits(p.packet_rate, 6);
  way.close();
  way.whole(p.traffic_class);
  way.whole(p.hop_limit);
  way.template open<2>();
  way.bits(p.service_level, 4);
  way.bits(p.subnet_local, 1);
  way.unused(3);
  way.bits(p.local_ack_timeout, 5);
  way.unused(3);
  way.close();
}

// `M` is a message or a const one, by direction.

template <typename M, typename T>
concept Is = std::same_as<std::remove_const_t<M>, T>;

template <typename Way, Is<CmReq> M>
void walk(Way& way, M& m) {
  way.whole(m.local_id);
  way.skip(4);
  way.whole(m.service_id);
  way.whole(m.local_ca_guid);
  way.skip(4);
  way.whole(m.local_qkey);
  way.template open<4>();
  way.bits(m.local_qpn, 24);
  way.bits(m.responder_resources, 8);
  way.close();
  way.template open<4>();
  way.bits(m.local_eecn, 24);
  way.bits(m.initiator_depth, 8);
  way.close();
  way.template open<4>();
  way.bits(m.remote_eecn, 24);
  way.bits(m.remote_response_timeout, 5);
  way.bits(m.transport, 2);
  way.bits(m.flow_control, 1);
  way.close();
  way.template open<4>();
  way.bits(m.starting_psn, 24);
  way.bits(m.local_response_timeout, 5);
  way.bits(m.retry_count, 3);
  way.close();
  way.whole(m.pkey);
  way.template open<2>();
  way.bits(m.path_mtu, 4);
  way.bits(m.rdc_exists, 1);
  way.bits(m.rnr_retry_count, 3);
  way.bits(m.max_cm_retries, 4);
  way.bits(m.srq, 1);
  way.bits(m.extended_transport, 3);
  way.close();
  walk_path(way, m.primary);
  walk_path(way, m.alternate);
  way.bytes(m.private_data);
}

template <typename Way, Is<CmMra> M>
void walk(Way& way, M& m) {
  way.whole(m.local_id);
  way.whole(m.remote_id);
  way.template open<2>();
  way.bits(m.answered, 2);
  way.unused(6);
  way.bits(m.service_timeout, 5);
  way.unused(3);
  way.close();
  way.bytes(m.private_data);
}

template <typename Way, Is<CmRej> M>
void walk(Way& way, M& m) {
  way.whole(m.local_id);
  way.whole(m.remote_id);
  way.template open<4>();
  way.bits(m.answered, 2);
  way.unused(6);
  way.bits(m.info_length, 7);
  way.unused(1);
  way.bits(m.reason, 16);
  way.close();
  way.bytes(m.info);
  way.bytes(m.private_data);
}

template <typename Way, Is<CmRep> M>
void walk(Way& way, M& m) {
  way.whole(m.local_id);
  way.whole(m.remote_id);
  way.whole(m.local_qkey);
  way.template open<4>();
  way.bits(m.local_qpn, 24);
  way.unused(8);
  way.close();
  way.template open<4>();
  way.bits(m.local_eecn, 24);
  way.unused(8);
  way.close();
  way.template open<4>();
  way.bits(m.starting_psn, 24);
  way.unused(8);
  way.close();
  way.whole(m.responder_resources);
  way.whole(m.initiator_depth);
  way.template open<2>();
  way.bits(m.target_ack_delay, 5);
  way.bits(m.failover_accepted, 2);
  way.bits(m.flow_control, 1);
  way.bits(m.rnr_retry_count, 3);
  way.bits(m.srq, 1);
  way.unused(4);
  way.close();
  way.whole(m.local_ca_guid);
  way.bytes(m.private_data);
}

template <typename Way, typename M>
requires Is<M, CmRtu> || Is<M, CmDrep>
void walk(Way& way, M& m) {
  way.whole(m.local_id);
  way.whole(m.remote_id);
  way.bytes(m.private_data);
}

template <typename Way, Is<CmDreq> M>
void walk(Way& way, M& m) {
  way.whole(m.local_id);
  way.whole(m.remote_id);
  way.template open<4>();
  way.bits(m.remote_qpn, 24);
  way.unused(8);
  way.close();
  way.bytes(m.private_data);
}

template <typename Way, Is<CmSidrReq> M>
void walk(Way& way, M& m) {
  way.whole(m.request_id);
  way.whole(m.pkey);
  way.skip(2);
  way.whole(m.service_id);
  way.bytes(m.private_data);
}

template <typename Way, Is<CmSidrRep> M>
void walk(Way& way, M& m) {
  way.whole(m.request_id);
  way.template open<4>();
  way.bits(m.status, 8);
  way.bits(m.info_length, 8);
  way.unused(16);
  way.close();
  way.template open<4>();
  way.bits(m.qpn, 24);
  way.unused(8);
  way.close();
  way.whole(m.service_id);
  way.whole(m.qkey);
  way.bytes(m.info);
  way.bytes(m.private_data);
}

/// Makes `body` the message that `attribute` names; false: there is none.
bool choose_body(Attribute attribute, CmBody& body) {
  switch (attribute) {
    case Attribute::kReq: body.emplace<CmReq>(); return true;
    case Attribute::kMra: body.emplace<CmMra>(); return true;
    case Attribute::kRej: body.emplace<CmRej>(); return true;
    case Attribute::kRep: body.emplace<CmRep>(); return true;
    case Attribute::kRtu: body.emplace<CmRtu>(); return true;
    case Attribute::kDreq: body.emplace<CmDreq>(); return true;
    case Attribute::kDrep: body.emplace<CmDrep>(); return true;
    case Attribute::kSidrReq: body.emplace<CmSidrReq>(); return true;
    case Attribute::kSidrRep: body.emplace<CmSidrRep>(); return true;
    case Attribute::kClassPortInfo:
    case Attribute::kLap:
    case Attribute::kApr: break;
  }
  return false;
}

Attribute attribute_of(const CmBody& body) {
  // In the order of the variant, which is that of the attributes.
  return static_cast<Attribute>(static_cast<size_t>(Attribute::kReq) + body.index());
}

}  // namespace

void parse_mad_header(std::span<const std::byte, kMadBytes> mad, MadHeader& out) noexcept {
  Reading in(mad.data());
  in.whole(out.base_version);
  in.whole(out.management_class);
  in.whole(out.class_version);
  in.whole(out.method);
  in.whole(out.status);
  in.whole(out.class_specific);
  in.whole(out.transaction);
  in.whole(out.attribute);
  in.whole(out.reserved);
  in.whole(out.modifier);
}

void emit_mad_header(const MadHeader& header, std::span<std::byte, kMadBytes> out) noexcept {
  Writing to(out.data());
  to.whole(header.base_version);
  to.whole(header.management_class);
  to.whole(header.class_version);
  to.whole(header.method);
  to.whole(header.status);
  to.whole(header.class_specific);
  to.whole(header.transaction);
  to.whole(header.attribute);
  to.whole(header.reserved);
  to.whole(header.modifier);
}

std::string_view to_string(CmParseError error) {
  switch (error) {
    case CmParseError::kNone: return "none";
    case CmParseError::kWrongSize: return "wrong size";
    case CmParseError::kBadVersion: return "bad version";
    case CmParseError::kOtherClass: return "another management class";
    case CmParseError::kBadMethod: return "bad method";
    case CmParseError::kUnsupported: return "unsupported message";
    case CmParseError::kUnknownMessage: return "unknown message";
  }
  return "invalid";
}

CmParseError parse_cm(std::span<const std::byte> mad, CmMessage& out) noexcept {
  if (mad.size() != kMadBytes) return CmParseError::kWrongSize;
  MadHeader header;
  parse_mad_header(mad.first<kMadBytes>(), header);
  if (header.base_version != kMadBaseVersion) return CmParseError::kBadVersion;
  if (header.management_class != kMadClassCm) return CmParseError::kOtherClass;
  if (header.class_version != kMadClassCmVersion) return CmParseError::kBadVersion;
  if (header.method != kMadMethodSend) return CmParseError::kBadMethod;
  const auto attribute = static_cast<Attribute>(header.attribute);
  if (attribute == Attribute::kLap || attribute == Attribute::kApr ||
      attribute == Attribute::kClassPortInfo) {
    return CmParseError::kUnsupported;
  }
  if (!choose_body(attribute, out.body)) return CmParseError::kUnknownMessage;
  out.transaction = header.transaction;
  Reading in(mad.data() + kMadHeaderBytes);
  std::visit([&in](auto& body) { walk(in, body); }, out.body);
  return CmParseError::kNone;
}

void emit_cm(const CmMessage& message, std::span<std::byte, kMadBytes> out) noexcept {
  MadHeader header;
  header.management_class = kMadClassCm;
  header.class_version = kMadClassCmVersion;
  header.method = kMadMethodSend;
  header.transaction = message.transaction;
  header.attribute = static_cast<uint16_t>(attribute_of(message.body));
  emit_mad_header(header, out);
  Writing to(out.data() + kMadHeaderBytes);
  std::visit([&to](const auto& body) { walk(to, body); }, message.body);
}

}  // namespace flexins::wire
