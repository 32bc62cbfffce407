#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

/// Classic pcap files (little-endian, microseconds, Ethernet), as much as the tests need.

namespace flexins::wire {

using Frame = std::vector<std::byte>;

inline constexpr uint32_t kPcapMagic = 0xa1b2'c3d4;
inline constexpr size_t kPcapFileHeaderBytes = 24;
inline constexpr size_t kPcapRecordHeaderBytes = 16;
inline constexpr uint32_t kPcapEthernet = 1;

/// All frames of the file at `path`; none where it is not such a file or is cut short.
inline std::vector<Frame> read_pcap(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  const auto word = [&bytes](size_t at) {
    uint32_t value;
    std::memcpy(&value, bytes.data() + at, sizeof value);
    return value;
  };
  if (bytes.size() < kPcapFileHeaderBytes || word(0) != kPcapMagic || word(20) != kPcapEthernet) {
    return {};
  }
  std::vector<Frame> frames;
  for (size_t at = kPcapFileHeaderBytes; at < bytes.size();) {
    if (bytes.size() - at < kPcapRecordHeaderBytes) return {};
    const uint32_t captured = word(at + 8);
    at += kPcapRecordHeaderBytes;
    if (captured > bytes.size() - at) return {};
    const auto* begin = reinterpret_cast<const std::byte*>(bytes.data() + at);
    frames.emplace_back(begin, begin + captured);
    at += captured;
  }
  return frames;
}

inline void write_pcap(const std::string& path, const std::vector<Frame>& frames) {
  std::ofstream file(path, std::ios::binary);
  const auto put = [&file](uint32_t value) {
    file.write(reinterpret_cast<const char*>(&value), sizeof value);
  };
  put(kPcapMagic);
  put(4U << 16 | 2);  // version 2.4
  put(0);
  put(0);
  put(65'535);
  put(kPcapEthernet);
  uint32_t time_seconds = 0;
  for (const Frame& frame : frames) {
    put(++time_seconds);
    put(0);
    put(static_cast<uint32_t>(frame.size()));
    put(static_cast<uint32_t>(frame.size()));
    file.write(reinterpret_cast<const char*>(frame.data()),
               static_cast<std::streamsize>(frame.size()));
  }
}

}  // namespace flexins::wire
