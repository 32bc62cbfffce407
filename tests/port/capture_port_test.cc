#include "port/capture_port.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <iterator>

#include "port/fault_port.h"
#include "port/local_port.h"
#include "support.h"

namespace flexins::port::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class Capture : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = "/tmp/flexins-capture-XXXXXX";
    base::UniqueFd fd(mkstemp(name.data()));
    ASSERT_TRUE(fd.valid());
    file_ = name;
  }
  void TearDown() override { unlink(file_.c_str()); }

  std::string contents() const {
    std::ifstream in(file_, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  static bool has_tshark() { return std::system("tshark --version >/dev/null 2>&1") == 0; }
  /// What tshark prints for the capture. Settings of whoever runs the test are left out.
  std::string tshark(const std::string& arguments) const {
    const std::string command = "HOME=/nonexistent XDG_CONFIG_HOME=/nonexistent tshark -n -r " +
                                file_ + " " + arguments + " 2>/dev/null";
    FILE* pipe = popen(command.c_str(), "r");
    std::string output;
    std::array<char, 4096> part;
    while (const size_t n = fread(part.data(), 1, part.size(), pipe)) output.append(part.data(), n);
    EXPECT_EQ(pclose(pipe), 0) << output;
    return output;
  }

  static size_t lines(const std::string& text) {
    return static_cast<size_t>(std::count(text.begin(), text.end(), '\n'));
  }

  std::string file_;
};

TEST_F(Capture, IsWellFormedForTshark) {
  if (!has_tshark()) GTEST_SKIP() << "needs tshark";
  LocalPort local;
  CapturePort port(local);
  ASSERT_TRUE(port.start(file_).ok());
  for (const auto& address : {loopback(0), loopback_v6()}) {
    Burst burst({.source = address, .destination = address, .traffic_class = 0x02});
    // tshark 4.0 calls a SEND without payload malformed, whoever sent it.
    for (uint32_t psn = 1; psn <= 20; ++psn) burst.add(psn, psn * 200, psn);
    EXPECT_EQ(exchange(port, port, burst.span(), 20).size(), 20u);
  }
  ASSERT_TRUE(port.stop().ok());
  EXPECT_EQ(lines(tshark("")), 80u);
  EXPECT_EQ(tshark("-Y _ws.malformed"), "");
  EXPECT_EQ(lines(tshark("-Y infiniband")), 80u);
  EXPECT_EQ(lines(tshark("-Y 'frame.packet_flags_direction == 1'")), 40u);
  EXPECT_EQ(lines(tshark("-Y 'infiniband.bth.psn == 7'")), 4u);
  const std::string times = tshark("-T fields -e frame.time_epoch -c 1");
  EXPECT_NEAR(std::stod(times), static_cast<double>(time(nullptr)), 60);
}

TEST_F(Capture, SaysWhyPacketsAreGone) {
  if (!has_tshark()) GTEST_SKIP() << "needs tshark";
  LocalPort local;
  FaultPort faults(local);
  CapturePort port(faults);
  ASSERT_TRUE(port.start(file_).ok());
  ASSERT_TRUE(faults.set({.loss = 1}).ok());
  Burst burst({.source = loopback(0), .destination = loopback(0)});
  burst.add(1, 64);
  ASSERT_EQ(port.transmit(burst.span(), 0), 1u);
  ASSERT_TRUE(faults.set({}).ok());
  Burst more({.source = loopback(0), .destination = loopback(0)});
  more.add(2, 64);
  more.add(3, 64);
  ASSERT_EQ(port.transmit(more.span(), 0), 2u);
  wire::RxPacket received[4];
  ASSERT_EQ(port.receive(received, 0), 2u);
  port.note_dropped(received[1], "no such QP");
  ASSERT_TRUE(port.stop().ok());
  EXPECT_EQ(tshark("-T fields -e infiniband.bth.psn -e frame.comment"),
            "1\tfault injected: loss\n2\t\n3\t\n2\t\n3\tno such QP\n");
}

TEST_F(Capture, ShowsGarbageAsItCame) {
  if (!has_tshark()) GTEST_SKIP() << "needs tshark";
  UdpPortConfig config;
  config.addresses = {loopback(0)};
  auto udp = UdpPort::open(config);
  ASSERT_TRUE(udp.ok());
  CapturePort port(**udp);
  ASSERT_TRUE(port.start(file_).ok());
  uint16_t source_port = 0;
  auto fd = open_transmit_socket(loopback(1), source_port);
  ASSERT_TRUE(fd.ok());
  const SocketAddress to = to_socket_address(loopback(0), wire::kRocePort, 0);
  for (const std::string_view text : {"garbage", "garbage that is longer than an ICRC"}) {
    ASSERT_GT(sendto(fd->get(), text.data(), text.size(), 0, to.get(), to.length), 0);
  }
  EXPECT_TRUE(receive_all(port, 0).empty());
  ASSERT_TRUE(port.stop().ok());
  const std::string seen = tshark(
      "-d udp.port==4791,data -T fields -e udp.srcport "
      "-e frame.comment -e udp.payload");
  const std::string from = std::to_string(source_port);
  EXPECT_THAT(seen, HasSubstr(from + "\ttoo short\t67617262616765\n"));
  EXPECT_THAT(seen, HasSubstr(from + "\ticrc wrong\t6761726261676520746861"));
}

TEST_F(Capture, HasTheIcrcThatFitsItsHeaders) {
  LocalPort local;
  CapturePort port(local);
  ASSERT_TRUE(port.start(file_).ok());
  Burst burst({.source = loopback(0), .destination = loopback(1)});
  burst.add(1, 61, 3);
  ASSERT_EQ(port.transmit(burst.span(), 0), 1u);
  ASSERT_TRUE(port.stop().ok());
  const std::string all = contents();
  const auto at = all.find(std::string("\x45\x00", 2));
  ASSERT_NE(at, std::string::npos);
  wire::DatagramHeaders headers;
  std::span<const std::byte> payload;
  const auto* bytes = reinterpret_cast<const std::byte*>(all.data());
  ASSERT_EQ(wire::parse_datagram({bytes + at, 20 + 8 + 12 + 64 + 4}, headers, payload),
            wire::InternetError::kNone);
  uint16_t identification = 0;
  EXPECT_EQ(wire::icrc_check(wire::outer_headers(headers), payload, identification),
            wire::IcrcVerdict::kExact);
}

TEST_F(Capture, StartsAndStopsAtRunTime) {
  LocalPort local;
  CapturePort port(local);
  EXPECT_EQ(port.stop().error().code, ENOENT);
  ASSERT_TRUE(port.start(file_).ok());
  EXPECT_EQ(port.start(file_).error().code, EBUSY);
  ASSERT_TRUE(port.stop().ok());
  EXPECT_FALSE(port.capturing());
  const size_t empty = contents().size();
  EXPECT_GT(empty, 0u);
  ASSERT_TRUE(port.start(file_).ok());
  Burst burst({.source = loopback(0), .destination = loopback(0)});
  for (uint32_t psn = 0; psn < 100; ++psn) burst.add(psn, 1000);
  EXPECT_EQ(exchange(port, port, burst.span(), 100).size(), 100u);
  EXPECT_EQ(count(port, "capture_packets"), 200u);
  ASSERT_TRUE(port.stop().ok());
  EXPECT_GT(contents().size(), 200u * 1000);
  struct stat status;
  ASSERT_EQ(stat(file_.c_str(), &status), 0);
}

TEST_F(Capture, AFileThatCannotBeWrittenIsNamed) {
  LocalPort local;
  CapturePort port(local);
  const auto started = port.start("/nonexistent/x.pcapng");
  ASSERT_FALSE(started.ok());
  EXPECT_EQ(started.error().code, ENOENT);
  EXPECT_THAT(started.error().message, HasSubstr("/nonexistent/x.pcapng"));
  EXPECT_FALSE(port.capturing());
}

TEST_F(Capture, AFullDiskEndsTheCaptureNotThePackets) {
  LocalPort local;
  CapturePort port(local);
  ASSERT_TRUE(port.start("/dev/full").ok());
  Burst burst({.source = loopback(0), .destination = loopback(0)});
  for (uint32_t psn = 0; psn < 100; ++psn) burst.add(psn, 1000);
  EXPECT_EQ(exchange(port, port, burst.span(), 100).size(), 100u);
  const auto stopped = port.stop();
  ASSERT_FALSE(stopped.ok());
  EXPECT_EQ(stopped.error().code, ENOSPC);
}

}  // namespace
}  // namespace flexins::port::testing
