#include "port/pcapng.h"

#include <algorithm>
#include <cstring>

namespace flexins::port::pcapng {

namespace {

constexpr uint32_t kSectionHeader = 0x0a0d0d0a;
constexpr uint32_t kInterfaceDescription = 1;
constexpr uint32_t kInterfaceStatistics = 5;
constexpr uint32_t kEnhancedPacket = 6;
constexpr uint32_t kByteOrderMagic = 0x1a2b3c4d;
constexpr uint16_t kLinkTypeRaw = 101;
constexpr uint32_t kSnapLength = 65535;

constexpr uint16_t kOptEnd = 0;
constexpr uint16_t kOptComment = 1;
constexpr uint16_t kShbUserApplication = 4;
constexpr uint16_t kIfName = 2;
constexpr uint16_t kIfTimestampResolution = 9;
constexpr uint16_t kEpbFlags = 2;
constexpr uint16_t kIsbReceived = 4;
constexpr uint16_t kIsbDropped = 5;

/// Writes fields one after the other; everything in pcapng stands at multiples of four bytes.
class Writer {
 public:
  explicit Writer(std::span<std::byte> out, size_t at = 0) : out_(out), at_(at) {}

  template <typename T>
  void put(T value) {
    std::memcpy(out_.data() + at_, &value, sizeof value);
    at_ += sizeof value;
  }
  void pad() {
    while (at_ % 4 != 0) out_[at_++] = std::byte{0};
  }
  void option(uint16_t code, const void* value, size_t length) {
    put(code);
    put(static_cast<uint16_t>(length));
    if (length > 0) std::memcpy(out_.data() + at_, value, length);
    at_ += length;
    pad();
  }
  void option(uint16_t code, std::string_view text) { option(code, text.data(), text.size()); }
  void time(uint64_t time_ns) {
    put(static_cast<uint32_t>(time_ns >> 32));
    put(static_cast<uint32_t>(time_ns));
  }
  /// Writes type and both lengths of the block that began at `begin`; returns its length.
  size_t end_block(size_t begin, uint32_t type) {
    option(kOptEnd, nullptr, 0);
    const auto length = static_cast<uint32_t>(at_ + sizeof(uint32_t) - begin);
    put(length);
    std::memcpy(out_.data() + begin, &type, sizeof type);
    std::memcpy(out_.data() + begin + sizeof type, &length, sizeof length);
    return length;
  }
  void skip(size_t bytes) { at_ += bytes; }
  [[nodiscard]] size_t at() const { return at_; }

 private:
  std::span<std::byte> out_;
  size_t at_;
};

constexpr size_t kBlockHeaderBytes = 8;
constexpr size_t kPacketFieldsBytes = 20;

}  // namespace

size_t write_file_header(std::span<std::byte> out) {
  Writer writer(out);
  writer.skip(kBlockHeaderBytes);
  writer.put(kByteOrderMagic);
  writer.put(uint16_t{1});  // version 1.0
  writer.put(uint16_t{0});
  writer.put(~uint64_t{0});  // section length: not said
  writer.option(kShbUserApplication, "FlexiNS");
  writer.end_block(0, kSectionHeader);

  const size_t begin = writer.at();
  writer.skip(kBlockHeaderBytes);
  writer.put(kLinkTypeRaw);
  writer.put(uint16_t{0});
  writer.put(kSnapLength);
  writer.option(kIfName, "flexins");
  const uint8_t nanoseconds = 9;
  writer.option(kIfTimestampResolution, &nanoseconds, sizeof nanoseconds);
  writer.end_block(begin, kInterfaceDescription);
  return writer.at();
}

size_t packet_offset() { return kBlockHeaderBytes + kPacketFieldsBytes; }

size_t write_packet(std::span<std::byte> out, uint32_t length, uint32_t original_length,
                    uint64_t time_ns, Direction direction, std::string_view comment) noexcept {
  Writer fields(out, kBlockHeaderBytes);
  fields.put(uint32_t{0});  // interface
  fields.time(time_ns);
  fields.put(length);
  fields.put(original_length);
  Writer rest(out, packet_offset() + length);
  rest.pad();
  rest.option(kEpbFlags, &direction, sizeof direction);
  if (!comment.empty()) rest.option(kOptComment, comment.substr(0, kMaxCommentBytes));
  return rest.end_block(0, kEnhancedPacket);
}

size_t write_statistics(std::span<std::byte> out, uint64_t time_ns, uint64_t received,
                        uint64_t dropped) {
  Writer writer(out, kBlockHeaderBytes);
  writer.put(uint32_t{0});  // interface
  writer.time(time_ns);
  writer.option(kIsbReceived, &received, sizeof received);
  writer.option(kIsbDropped, &dropped, sizeof dropped);
  return writer.end_block(0, kInterfaceStatistics);
}

}  // namespace flexins::port::pcapng
