#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "window/client.h"
#include "window/host.h"

namespace flexins::window {

inline constexpr uint64_t kPage = 4096;

inline uint64_t address_of(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

/// Private pages with nothing mapped on either side, so that they are a mapping of their own.
class Pages {
 public:
  explicit Pages(uint64_t count, int protection = PROT_READ | PROT_WRITE) : bytes_(count * kPage) {
    hull_ = static_cast<std::byte*>(::mmap(nullptr, bytes_ + 2 * kPage, PROT_NONE,
                                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    ::mprotect(data(), bytes_, protection);
  }
  ~Pages() { ::munmap(hull_, bytes_ + 2 * kPage); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  [[nodiscard]] std::byte* data() const { return hull_ + kPage; }
  [[nodiscard]] uint64_t address() const { return address_of(data()); }
  [[nodiscard]] uint64_t bytes() const { return bytes_; }

 private:
  uint64_t bytes_;
  std::byte* hull_;
};

inline void fill(std::byte* data, uint64_t bytes, uint32_t seed) {
  for (uint64_t i = 0; i < bytes; ++i)
    data[i] = static_cast<std::byte>((i * 31 + i / kPage) + seed);
}
inline bool is_filled(const std::byte* data, uint64_t bytes, uint32_t seed) {
  for (uint64_t i = 0; i < bytes; ++i) {
    if (data[i] != static_cast<std::byte>((i * 31 + i / kPage) + seed)) return false;
  }
  return true;
}

/// The engine's end of a preparation, in this process.
inline std::unique_ptr<memory::Window> open_of(const Preparation& preparation, uint64_t address,
                                               uint64_t length,
                                               std::shared_ptr<ProcessMemory> process = nullptr) {
  std::vector<HostSegment> segments;
  for (const ClientSegment& from : preparation.segments) {
    segments.push_back({from.address, from.length, from.fd, from.offset, from.kind, from.writable});
  }
  auto window = open_window(address, length, segments, std::move(process));
  return window.ok() ? std::move(window).value() : nullptr;
}

/// The /proc/self/maps line that holds `address`.
inline std::string mapping_line(uint64_t address) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    char* end = nullptr;
    const uint64_t from = std::strtoull(line.c_str(), &end, 16);
    const uint64_t to = std::strtoull(end + 1, nullptr, 16);
    if (from <= address && address < to) return line;
  }
  return {};
}
inline bool is_adopted(uint64_t address) {
  return mapping_line(address).find("flexins-adopted") != std::string::npos;
}

inline unsigned rounds(const char* variable, unsigned otherwise) {
  const char* wanted = std::getenv(variable);
  return wanted == nullptr ? otherwise : static_cast<unsigned>(std::strtoul(wanted, nullptr, 10));
}

}  // namespace flexins::window
