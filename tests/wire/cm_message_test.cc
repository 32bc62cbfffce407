#include "wire/cm_message.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/wire/pcap.h"
#include "wire/headers.h"
#include "wire/internet.h"
#include "wire/ip_cm.h"

/// Messages of the communication manager: what Linux sent must be understood and come out again to
/// the last bit.

namespace flexins::wire {
namespace {

/// The management datagrams of a capture, with the addresses they went between.
struct CapturedMad {
  DatagramHeaders datagram;
  std::vector<std::byte> bytes;
};

std::vector<CapturedMad> captured_mads(const std::string& file) {
  std::vector<CapturedMad> mads;
  for (const Frame& frame : read_pcap(std::string(FLEXINS_TEST_VECTORS) + "/" + file)) {
    CapturedMad mad;
    std::span<const std::byte> payload;
    if (parse_datagram(std::span(frame).subspan(kEthernetBytes), mad.datagram, payload) !=
        InternetError::kNone) {
      continue;
    }
    Headers headers;
    size_t header_length = 0;
    const auto packet = payload.first(payload.size() - 4);  // without the ICRC
    if (parse(packet, 0, headers, header_length) != ParseError::kNone) continue;
    if (headers.bth.destination.value != kManagementQpn) continue;
    EXPECT_EQ(headers.deth.qkey, kManagementQkey);
    const auto body = packet.subspan(header_length);
    mad.bytes.assign(body.begin(), body.end());
    mads.push_back(std::move(mad));
  }
  return mads;
}

TEST(CmMessage, EveryCapturedMessageIsReproduced) {
  std::multiset<size_t> kinds;
  for (const char* file :
       {"rping_connect.pcap", "rping_reject.pcap", "ucmatose.pcap", "udaddy_sidr.pcap"}) {
    SCOPED_TRACE(file);
    for (const CapturedMad& mad : captured_mads(file)) {
      CmMessage message;
      ASSERT_EQ(parse_cm(mad.bytes, message), CmParseError::kNone);
      std::array<std::byte, kMadBytes> again;
      emit_cm(message, again);
      EXPECT_TRUE(std::ranges::equal(again, mad.bytes));
      kinds.insert(message.body.index());
    }
  }
  EXPECT_EQ(kinds.size(), 5U + 2 + 10 + 2);
}

TEST(CmMessage, RequestOfRping) {
  const CapturedMad mad = captured_mads("rping_connect.pcap").at(0);
  CmMessage message;
  ASSERT_EQ(parse_cm(mad.bytes, message), CmParseError::kNone);
  const auto& req = std::get<CmReq>(message.body);
  EXPECT_EQ(req.local_id, 0x0abd05b5U);
  EXPECT_EQ(req.local_qpn, 0x8bU);
  EXPECT_EQ(req.starting_psn, base::Psn(0x720239));
  EXPECT_EQ(req.remote_response_timeout, 20);
  EXPECT_EQ(req.retry_count, 7);
  EXPECT_EQ(req.rnr_retry_count, 7);
  EXPECT_EQ(req.path_mtu, 3);
  EXPECT_EQ(req.max_cm_retries, 15);
  EXPECT_EQ(req.primary.flow_label, 0xab5daU);
  EXPECT_EQ(req.primary.hop_limit, 64);
  EXPECT_EQ(req.primary.local_ack_timeout, 19);
  EXPECT_EQ(req.primary.local_gid, mad.datagram.source.bytes);
  EXPECT_EQ(req.primary.remote_gid, mad.datagram.destination.bytes);
  const auto service = parse_ip_cm_service(req.service_id);
  ASSERT_TRUE(service);
  EXPECT_EQ(service->space, IpCmSpace::kTcp);
  EXPECT_EQ(service->port, 7174);
  EXPECT_EQ(ip_cm_service_id(service->space, service->port), req.service_id);
  IpCmHeader ip;
  ASSERT_TRUE(parse_ip_cm(req.private_data, ip));
  EXPECT_EQ(ip.source, mad.datagram.source);
  EXPECT_EQ(ip.destination, mad.datagram.destination);
  std::array<uint8_t, kIpCmHeaderBytes> again{};
  emit_ip_cm(ip, again);
  EXPECT_TRUE(std::equal(again.begin(), again.end(), req.private_data.begin()));
}

TEST(CmMessage, ReplyOfSidr) {
  const auto mads = captured_mads("udaddy_sidr.pcap");
  CmMessage message;
  ASSERT_EQ(parse_cm(mads.at(1).bytes, message), CmParseError::kNone);
  const auto& rep = std::get<CmSidrRep>(message.body);
  EXPECT_EQ(rep.status, CmSidrStatus::kSuccess);
  EXPECT_EQ(rep.qpn, 0xbaU);
  EXPECT_EQ(rep.qkey, 0x01234567U);
}

TEST(CmMessage, EveryFieldSurvives) {
  CmReq req;
  req.local_id = 1;
  req.transport = CmTransport::kUnreliable;
  req.flow_control = req.srq = req.rdc_exists = true;
  req.remote_eecn = 0xabcdef;
  req.primary.subnet_local = true;
  req.primary.packet_rate = 0x3f;
  req.alternate.flow_label = 0xfffff;
  req.private_data.back() = 9;
  CmMra mra{1, 2, CmAnswered::kRep, 31, {}};
  CmRej rej{1, 2, CmAnswered::kOther, 72, CmRejectReason::kInvalidMtu, {}, {}};
  CmRep rep;
  rep.failover_accepted = 2;
  rep.target_ack_delay = 31;
  rep.srq = true;
  CmDreq dreq{1, 2, 0xffffff, {}};
  dreq.private_data.back() = 7;
  CmSidrReq sidr_req{5, 0x7fff, 0x1234567890, {}};
  CmSidrRep sidr_rep;
  sidr_rep.status = CmSidrStatus::kRedirect;
  sidr_rep.info_length = 72;
  sidr_rep.private_data.back() = 3;
  for (const CmBody& body :
       {CmBody(req), CmBody(mra), CmBody(rej), CmBody(rep), CmBody(CmRtu{1, 2, {}}), CmBody(dreq),
        CmBody(CmDrep{3, 4, {}}), CmBody(sidr_req), CmBody(sidr_rep)}) {
    const CmMessage message{0x1122334455667788, body};
    std::array<std::byte, kMadBytes> bytes;
    emit_cm(message, bytes);
    CmMessage again;
    ASSERT_EQ(parse_cm(bytes, again), CmParseError::kNone);
    EXPECT_TRUE(again == message) << body.index();
  }
}

TEST(CmMessage, WhatIsWrongIsSaid) {
  std::array<std::byte, kMadBytes> good;
  emit_cm({1, CmRtu{1, 2, {}}}, good);
  CmMessage message;
  EXPECT_EQ(parse_cm(std::span(good).first(255), message), CmParseError::kWrongSize);
  const auto with = [&](size_t at, uint8_t value) {
    auto bad = good;
    bad[at] = std::byte{value};
    return parse_cm(bad, message);
  };
  EXPECT_EQ(with(0, 2), CmParseError::kBadVersion);
  EXPECT_EQ(with(1, 3), CmParseError::kOtherClass);
  EXPECT_EQ(with(2, 1), CmParseError::kBadVersion);
  EXPECT_EQ(with(3, 1), CmParseError::kBadMethod);
  EXPECT_EQ(with(17, 0x19), CmParseError::kUnsupported);
  EXPECT_EQ(with(17, 0x1a), CmParseError::kUnsupported);
  EXPECT_EQ(with(17, 0x1b), CmParseError::kUnknownMessage);
  EXPECT_EQ(with(16, 1), CmParseError::kUnknownMessage);
}

TEST(IpCm, WrongHeaders) {
  std::array<uint8_t, kIpCmHeaderBytes> bytes{};
  emit_ip_cm({7, IpAddress::from_v4("\1\2\3\4"), IpAddress::from_v4("\5\6\7\10")}, bytes);
  IpCmHeader header;
  EXPECT_TRUE(parse_ip_cm(bytes, header));
  EXPECT_FALSE(parse_ip_cm(std::span(bytes).first(35), header));
  bytes[0] = 1;
  EXPECT_FALSE(parse_ip_cm(bytes, header)) << "another version";
  bytes[0] = 0;
  bytes[1] = 5 << 4;
  EXPECT_FALSE(parse_ip_cm(bytes, header)) << "no IP version";
  bytes[1] = 4 << 4;
  bytes[5] = 1;
  EXPECT_FALSE(parse_ip_cm(bytes, header)) << "more than an IPv4 address";
  EXPECT_FALSE(parse_ip_cm_service(0x0000'0000'0206'0001));
  EXPECT_FALSE(parse_ip_cm_service(0x0000'0000'0184'0001)) << "SCTP is no port space of ours";
}

TEST(IpCm, Ipv6) {
  IpCmHeader header;
  header.source_port = 4711;
  header.source.bytes[0] = 0xfd;
  header.destination.bytes[0] = 0xfd;
  header.destination.bytes[15] = 1;
  std::array<uint8_t, kIpCmHeaderBytes> bytes{};
  emit_ip_cm(header, bytes);
  EXPECT_EQ(bytes[1], 0x60);
  IpCmHeader again;
  ASSERT_TRUE(parse_ip_cm(bytes, again));
  EXPECT_EQ(again, header);
  std::fill_n(bytes.begin() + 4, 10, uint8_t{0});
  bytes[14] = bytes[15] = 0xff;
  EXPECT_FALSE(parse_ip_cm(bytes, again)) << "IPv4 in the clothes of IPv6";
}

}  // namespace
}  // namespace flexins::wire
